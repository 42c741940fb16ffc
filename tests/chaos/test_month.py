"""`kill -9` of the month run at every step of it, and run again: nothing is lost, doubled or different.

The steps are not listed here. A run that nobody kills notes each crash point that it passes, the end of every
transaction among them; then a process of its own dies at each of them: in the long form (CHAOS=long) as often as it
is passed and on PostgreSQL too, in the short one on SQLite where it is passed first.
"""

from __future__ import annotations

import ast
import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from billing.models import checkpoint_leaves, draws, entries, invoices, postings, signatures
from tests.billing.stripe_emulator import KEY
from tests.chaos.length import IS_LONG, LIMIT_SECONDS
from tests.chaos.month import CLOSED_MS, Place, close_the_month, hand_over
from tests.chaos.month_lanes import Lane, Outside, name_of, run
from tests.chaos.month_world import make_hand_over, make_month
from tests.chaos.program import ROOT
from tests.services.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]

LANES = 2  # side by side, as most of a life is waiting for files
# What a month run consists of. Each crash point in them must be passed by one of the programs, and is died at.
SOURCES = (
    "billing",
    "metering/usage",
    "metering/meters",
    "kernel/database",
    "console/hours.py",
    "console/month.py",
    "console/months.py",
)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServerContext]:
    """It has imported what the programs need, which takes seconds, and makes a process for each life."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", "tests.chaos.month_world"])
        yield context


@pytest.fixture(
    scope="module",
    params=["sqlite", *([pytest.param("postgresql", marks=pytest.mark.services)] if IS_LONG else [])],
)
def lanes(
    request: pytest.FixtureRequest, server: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[tuple[Lane, Lane]]]:
    """Side by side; in each a month that is closed, and documents of it that are handed over."""
    postgres = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    folders = [tmp_path_factory.mktemp(f"lane-{number}") for number in range(LANES)]
    with ExitStack() as stack, ThreadPoolExecutor(LANES) as threads:
        yield list(threads.map(lambda folder: make_lanes(server, folder, postgres, stack), folders))


def make_lanes(
    server: ForkServerContext, folder: Path, postgres: PostgresServer | None, stack: ExitStack
) -> tuple[Lane, Lane]:
    """Each with its run that nobody kills."""

    def copied(template: str) -> str:
        return stack.enter_context(postgres.database(template)) if postgres else ""

    place = Place(folder / "month")
    place.folder.mkdir()
    made = replace(place, database_url=copied("template1"))
    assert run(server, make_month, made) == 0
    (place.folder / "stripe.key").write_text(KEY)
    closing = Lane(server, place, close_the_month, folder / "open", Outside(CLOSED_MS), postgres)
    closing.template = name_of(made)
    closed = replace(place, database_url=copied(closing.template))
    closing.begin(closed)

    assert run(server, make_hand_over, closed) == 0
    outside = Outside(CLOSED_MS)
    reachable = stack.enter_context(outside.serving(place))
    handing = Lane(server, reachable, hand_over, folder / "closed", outside, postgres, is_timeless=True)
    handing.template = name_of(closed)
    handing.begin(replace(reachable, database_url=copied(handing.template)))
    return closing, handing


def die_everywhere(lanes: Sequence[Lane]) -> None:
    """Each lane takes its share of the points; in the short form each where it is passed first."""
    assert len({tuple(lane.points) for lane in lanes}) == 1, "the same run does not do the same twice"
    points = [point for point in lanes[0].points if IS_LONG or point.endswith(":1")]

    def take(number: int) -> None:
        for point in points[number :: len(lanes)]:
            lanes[number].die_at(point)

    with ThreadPoolExecutor(len(lanes)) as threads:
        list(threads.map(take, range(len(lanes))))


def test_the_month_that_nobody_kills_is_what_it_should_be(lanes: Sequence[tuple[Lane, Lane]]) -> None:
    """Else all runs could be the same and wrong."""
    closing, handing = (lane.final for lane in lanes[0])
    kinds = sorted(str(kind) for kind in column(closing, invoices, "kind"))
    assert kinds == ["commitment"] * 3 + ["credit-note"] + ["usage"] * 5  # two of them of September
    assert sum(int(str(one)) for table in (postings, entries) for one in column(closing, table, "minor_units")) == 0
    assert len(column(closing, signatures, "number")) == len(column(closing, checkpoint_leaves, "number")) == 9
    assert len(column(closing, draws, "number")) == 2
    assert len([name for name in closing if name.startswith("file ") and "EXAMPLE" in name]) == 7
    assert len([name for name in handing if name.endswith(".eml")]) == 3
    assert handing["metered"]
    assert handing["stripe invoices"]


def column(state: Mapping[str, object], table: sa.Table, name: str) -> list[object]:
    """Of every row."""
    place = [one.name for one in table.columns].index(name)
    return [row[place] for row in cast("Sequence[tuple[object, ...]]", state[table.name])]


def test_the_month_is_closed_whenever_it_is_killed(lanes: Sequence[tuple[Lane, Lane]]) -> None:
    die_everywhere([closing for closing, _ in lanes])


def test_documents_are_handed_over_whenever_that_is_killed(lanes: Sequence[tuple[Lane, Lane]]) -> None:
    """At most one mail goes twice, with the same bytes; nothing is metered or invoiced twice elsewhere."""
    die_everywhere([handing for _, handing in lanes])


def test_no_crash_point_of_the_month_run_is_left_out(lanes: Sequence[tuple[Lane, Lane]]) -> None:
    """Whoever adds one to the sources has it passed by a program here, where it is then died at."""
    passed = {point.partition(":")[0] for lane in lanes[0] for point in lane.points}
    never = [each for each in points_of(SOURCES) if not any(re.fullmatch(each, name) for name in passed)]
    assert not never, f"no program of tests/chaos/month.py passes {never}"


def points_of(sources: Sequence[str]) -> list[str]:
    """The names that `crash_point` is called with in these files and folders, as patterns."""
    found = []
    for source in sources:
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crash_point":
                    found.append(pattern_of(node.args[0]))  # noqa: PERF401 - three loops in one line say less
    return found


def pattern_of(name: ast.expr) -> str:
    """A regular expression for a name that is written out, or composed of such and values."""
    if isinstance(name, ast.Constant):
        return re.escape(str(name.value))
    assert isinstance(name, ast.JoinedStr), ast.dump(name)
    parts = (re.escape(str(one.value)) if isinstance(one, ast.Constant) else ".+" for one in name.values)
    return "".join(parts)
