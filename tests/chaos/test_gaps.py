"""Numbers that never come: the vendor hears which, stops waiting at once, and counts them as missing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from collector.spool.gaps import Gap, GapRecords
from console.wiring import Vendor
from metering.lake.api import Lake, LakeInfo
from metering.lake.epochs import EpochState
from metering.lake.intervals import Intervals
from tests.chaos.length import LIMIT_SECONDS
from tests.chaos.program import ROOT, until
from tests.chaos.storage import EMBEDDED
from tests.chaos.world import World, open_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]
SHORT = {"bulk_max_age": "15s", "segment_age": "1s"}  # the least quota in bytes would take an hour to fill


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gaps")


def gaps(world: World) -> list[tuple[str, Gap]]:
    spool = world.collector_folder / "spool"
    return [(lane, gap) for lane in ("billing", "bulk") for gap in GapRecords(spool / lane).load()]


def by_boot(found: list[tuple[str, Gap]]) -> dict[tuple[str, int], Counter[str]]:
    counted: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for lane, gap in found:
        assert gap.epoch is not None
        assert gap.first is not None
        assert gap.last is not None
        counted[lane, gap.epoch][gap.reason.value] += gap.last - gap.first + 1
    return counted


def check(world: World, reason: str) -> None:
    """What is lost is lost whole, stands in gap records, and the lake was told of exactly these numbers."""
    world.drained()  # holes never expire in it: that it returns shows that the vendor was told
    _, verdict = world.judge()
    assert verdict.lost, "nothing was lost, so nothing was proved"
    assert not verdict.duplicated, verdict
    assert not verdict.different, verdict
    assert all(text.startswith("page (") for text in verdict.lost), f"parts of pages are lost: {verdict.lost}"
    recorded = gaps(world)
    values = len(verdict.lost) * len(world.targets[0].pages[0].samples)
    assert sum(gap.samples or 0 for lane, gap in recorded if lane == "bulk") >= values
    expected = by_boot(recorded)
    world.expect_proof(reason, expected)
    missing = world.look(told)
    assert missing == {key: numbers - world.look(stored)[key] for key, numbers in numbers_of(recorded).items()}
    found, numbers = world.look(info), sum(map(len, missing.values()))
    assert found.missing_pushes == numbers
    assert found.given_up.keys() == {reason}
    assert found.given_up[reason] >= numbers


def numbers_of(found: list[tuple[str, Gap]]) -> dict[tuple[str, int], set[int]]:
    """By lane and epoch."""
    numbers: dict[tuple[str, int], set[int]] = defaultdict(set)
    for lane, gap in found:
        numbers[lane, gap.epoch or 0] |= set(range(gap.first or 0, (gap.last or 0) + 1))
    return numbers


async def info(_: Vendor, lake: Lake) -> LakeInfo:
    return await lake.info()


async def told(_: Vendor, lake: Lake) -> dict[tuple[str, int], set[int]]:
    """What the lake does not wait for any more."""
    return {key: expand(state.refused) for key, state in (await epochs(lake)).items() if state.refused}


async def stored(_: Vendor, lake: Lake) -> dict[tuple[str, int], set[int]]:
    """What came: a push that was under way when it was given up may be among it."""
    return {key: expand(state.intervals) - expand(state.refused) for key, state in (await epochs(lake)).items()}


async def epochs(lake: Lake) -> dict[tuple[str, int], EpochState]:
    sources = (await lake.horizon()).sources
    return {(source.lane.value, epoch): one for source, state in sources.items() for epoch, one in state.epochs}


def expand(intervals: Intervals) -> set[int]:
    return {number for each in intervals for number in range(each.first, each.last + 1)}


def test_what_the_quota_dropped_while_the_gateway_was_away(folder: Path) -> None:
    with open_world(folder, EMBEDDED, spool=SHORT) as world:
        world.ensure_running()
        world.vendor.kill()
        until("the bulk lane to drop what is oldest", lambda: bool(gaps(world)))
        world.vendor.start()
        check(world, "quota")


def test_what_was_purged_with_the_collector_stopped(folder: Path) -> None:
    with open_world(folder, EMBEDDED) as world:
        world.ensure_running()
        world.vendor.kill()
        page = len(world.targets[0].pages)
        until("pages that wait", lambda: len(world.targets[0].pages) > page + 3)
        world.kill_collector()
        for lane in ("billing", "bulk"):
            words = ["collector", "spool", "purge", "-c", str(world.collector_config), "--lane", lane, "--yes"]
            subprocess.run([sys.executable, "-m", "console", *words], cwd=ROOT, check=True)
        world.collector.start()
        world.vendor.start()
        check(world, "purged")
