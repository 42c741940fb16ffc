"""Scraped usage against the provisioner's transitions, per cluster-hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from console.migrate import migrate
from kernel.clock import VirtualClock
from kernel.database import Database, sqlite_url
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.reconciler import Reconciler
from metering.usage.reconciliation import (
    DeclaredCluster,
    Difference,
    Level,
    Reconciliation,
    Tolerance,
    declared_range,
    is_reconciled,
    reconcile,
)
from metering.usage.reconciliation_store import ReconciliationStore
from metering.usage.rows import UsageRow
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.usage.months import ACME, seen, to_seal

MINUTE_MS = 60_000
FEBRUARY = month("2026-02", "Etc/UTC")
HOURS = list(hours_in(FEBRUARY))
START = FEBRUARY.start_ms
PROD, ORDERS = ProjectId("prod"), ClusterId("orders")
TOLERANCE = Tolerance(absolute=1000 * MINUTE_MS, relative=Fraction(1, 100), edge_ms=MINUTE_MS)


def row(
    level: int, *, minutes: int = 60, missing: int = 0, hour: Window = HOURS[1], cluster: str = "orders"
) -> UsageRow:
    """`level` milli-vCPU for that many minutes of the hour."""
    used = (level * minutes * MINUTE_MS, minutes * MINUTE_MS, missing * MINUTE_MS, level)
    return UsageRow(ACME, PROD, ClusterId(cluster), "query", hour, 1, *used, ())


def running(level: int = 4000, since_ms: int = START - HOUR_MS) -> DeclaredCluster:
    return DeclaredCluster(PROD, ORDERS, (Level(since_ms, level, level),))


def compare(rows: Sequence[UsageRow], *declared: DeclaredCluster, hour: Window = HOURS[1]) -> Difference | None:
    [found] = reconcile(rows, {hour.start_ms: 1}, declared, TOLERANCE).hours
    return found.difference


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (row(4000), None),
        (row(4016), None),  # a vCPU-minute more in 60 minutes is 16.7 milli-vCPU; one per cent is 40
        (row(4040), None),
        (row(4041), Difference.MORE),
        (row(3960), None),
        (row(3959), Difference.LESS),
        (row(4000, minutes=40), Difference.LESS),
        (row(4000, minutes=40, missing=20), Difference.MISSING),
        (row(4000, minutes=30, missing=10), Difference.LESS),  # the gap explains only a part
        (row(4000, cluster="ledger"), Difference.UNKNOWN),
    ],
)
def test_what_counts_as_a_difference(used: UsageRow, expected: Difference | None) -> None:
    declared = [running()] if used.cluster == ORDERS else []
    assert compare([used], *declared) == expected


def test_small_clusters_are_held_to_minutes_and_not_to_per_cents() -> None:
    """A quarter of a vCPU: one vCPU-minute of the fifteen is allowed."""
    assert compare([row(266)], running(250)) is None
    assert compare([row(267)], running(250)) is Difference.MORE


def test_while_an_operation_runs_either_level_is_right() -> None:
    """Asked at 01:10, declared at 01:20, from 1 to 4 vCPU: the hour lies between the two ways of the change."""
    asked, done = HOURS[1].start_ms + 10 * MINUTE_MS, HOURS[1].start_ms + 20 * MINUTE_MS
    levels = (Level(START, 1000, 1000), Level(asked, 0, 4000), Level(done, 4000, 4000))
    cluster = DeclaredCluster(PROD, ORDERS, levels)
    early, late = 1000 * 10 + 4000 * 50, 1000 * 10 + 4000 * 40
    for vcpu_minutes in (early, late, (early + late) // 2):
        used = row(vcpu_minutes // 60)
        assert compare([used], cluster) is None
    assert compare([row(4000)], cluster) is Difference.MORE
    assert compare([row(1000)], cluster) is Difference.LESS


def test_components_of_a_cluster_are_summed_before_they_are_compared() -> None:
    parts = [row(2000), row(1000), row(1000)]
    assert compare(parts, running()) is None
    assert compare(parts[:2], running()) is Difference.LESS


def test_a_cluster_that_was_declared_and_never_scraped_is_a_difference() -> None:
    assert compare([], running()) is Difference.LESS


def test_nothing_is_said_of_hours_before_anything_was_known() -> None:
    known = DeclaredCluster(PROD, ORDERS, (Level(HOURS[2].start_ms, 4000, 4000),), HOURS[2].start_ms)
    found = reconcile([row(9000)], {hour.start_ms: 1 for hour in HOURS[1:3]}, [known], TOLERANCE)
    assert [one.hour for one in found.hours] == [HOURS[2]]


def test_the_same_cluster_in_another_project_is_not_the_declared_one() -> None:
    other = DeclaredCluster(ProjectId("test"), ORDERS, (Level(HOURS[5].start_ms, 1, 1),))
    assert compare([row(4000)], other) is Difference.UNKNOWN


def test_what_the_vendor_says_it_did_not_provision_is_stated_and_no_finding() -> None:
    rows = [row(4000, cluster="history-a"), row(9000), row(4000, cluster="stray")]
    apart = ("prod/history-*", "prod/orders", "test/stray")
    found = reconcile(rows, {HOURS[1].start_ms: 1}, [running()], TOLERANCE, apart)
    assert {one.cluster: one.difference for one in found.hours} == {
        "history-a": Difference.NOT_PROVISIONED,
        "orders": Difference.MORE,  # the provisioner knows it: a pattern hides nothing
        "stray": Difference.UNKNOWN,  # of another project
    }
    assert (found.compared, found.differing, len(found.spans())) == (2, 2, 3)
    assert [is_reconciled(one, found.flags()) for one in rows] == [None, False, False]


def test_hours_in_a_row_with_one_cause_are_one_finding() -> None:
    rows = [row(5000, hour=hour) for hour in HOURS[1:4]] + [row(1000, hour=HOURS[4]), row(5000, hour=HOURS[6])]
    closed = {hour.start_ms: 1 for hour in (*HOURS[1:5], HOURS[6])}
    found = reconcile(rows, closed, [running()], TOLERANCE)
    assert [(span.difference, span.hours) for span in found.spans()] == [
        (Difference.MORE, 3),
        (Difference.LESS, 1),
        (Difference.MORE, 1),
    ]
    assert found.differing == 5
    assert [is_reconciled(one, found.flags()) for one in (row(4000), row(4000, hour=HOURS[9]))] == [False, None]


LEVELS = st.lists(
    st.tuples(st.integers(0, 3 * 60), st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=8
).map(
    lambda drawn: tuple(
        Level(START + at * MINUTE_MS, min(a, b) * 1000, max(a, b) * 1000)
        for at, a, b in sorted({each[0]: each for each in drawn}.values())
    )
)


@given(
    LEVELS,
    st.lists(st.integers(-1, 1), min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_usage_that_follows_the_declared_levels_is_always_reconciled(
    levels: tuple[Level, ...], shifts: list[int], high: list[bool]
) -> None:
    """Whichever bound holds, and though each change is seen up to a minute early or late."""
    least, most = declared_range(levels, MINUTE_MS)
    kept = [(0, START - HOUR_MS)]
    for level, shift, is_high in zip(levels, shifts, high, strict=False):
        kept.append((level.most if is_high else level.least, level.at_ms + shift * MINUTE_MS))
    for hour in HOURS[:3]:
        integral = 0
        for (value, start), (_, end) in zip(kept, [*kept[1:], (0, HOURS[4].end_ms)], strict=True):
            begin, stop = max(start, hour.start_ms), min(end, hour.end_ms)
            integral += value * max(0, stop - begin)
        assert least.integral(hour) <= integral <= most.integral(hour)


class Provisioner:
    """What was declared, as a test says."""

    def __init__(self, *clusters: DeclaredCluster) -> None:
        self.clusters = clusters

    def declared(self, organization: OrganizationId) -> Sequence[DeclaredCluster]:
        return self.clusters if organization == ACME else ()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(sqlite_url(tmp_path / "byoc.sqlite"))
    migrate(opened)
    yield opened
    opened.close()


def make_reconciler(database: Database, *clusters: DeclaredCluster) -> tuple[Reconciler, VirtualClock]:
    clock = VirtualClock(FEBRUARY.end)
    return Reconciler(database, Provisioner(*clusters), UsageSettings(), clock), clock


def execute(connection: sa.Connection, statement: str) -> None:
    connection.execute(sa.text(statement))


def outcomes(database: Database) -> list[tuple[int, int, str]]:
    query = sa.text("SELECT position, revision, difference FROM usage_reconciliations ORDER BY hour_ms, position")
    return database.read(lambda one: [tuple(each) for each in one.execute(query)])


def test_a_revision_of_an_hour_is_compared_again_and_the_old_outcome_stays(database: Database) -> None:
    reconciler, clock = make_reconciler(database, running())
    usage = UsageStore(database)
    usage.seal([to_seal(HOURS[1], seen(HOURS[1], until_ms=HOUR_MS // 2))], clock.now_ms())
    assert reconciler.reconcile_new() == 1
    assert reconciler.reconcile_new() == 1  # what was sealed in the last minute is looked at again, and not written
    assert outcomes(database) == [(1, 1, "missing")]

    usage.seal([to_seal(HOURS[1], seen(HOURS[1]), files="b")], clock.now_ms())
    stale = ReconciliationStore(database).newest(ACME, FEBRUARY)
    [newest] = usage.month(ACME, FEBRUARY).rows
    assert is_reconciled(newest, stale.flags()) is None  # nobody has compared this revision yet
    reconciler.reconcile_new()
    assert outcomes(database) == [(1, 1, "missing"), (2, 2, "")]
    assert is_reconciled(newest, ReconciliationStore(database).newest(ACME, FEBRUARY).flags()) is True
    for change in ("UPDATE usage_reconciliations SET difference = ''", "DELETE FROM usage_reconciliations"):
        with pytest.raises(DBAPIError, match="does not change"):
            database.transact(partial(execute, statement=change))


def test_what_differs_is_counted_until_it_agrees_or_is_old(database: Database) -> None:
    reconciler, clock = make_reconciler(database, running(5000))
    usage = UsageStore(database)
    usage.seal([to_seal(hour, seen(hour)) for hour in HOURS[1:3]], clock.now_ms())
    reconciler.reconcile_new()
    store = ReconciliationStore(database)
    assert store.differing_since(clock.now_ms()) == {ACME: 2}
    usage.seal([to_seal(HOURS[1], seen(HOURS[1], 5000), files="b")], clock.now_ms())
    reconciler.reconcile_new()
    assert store.differing_since(clock.now_ms()) == {ACME: 1}
    assert store.differing_since(clock.now_ms() + 1) == {}
    assert store.newest(ACME, FEBRUARY).differing == 1
    assert store.newest(ACME, Window(HOURS[1].start_ms, HOURS[1].end_ms)).differing == 0


def test_what_is_not_provisioned_raises_no_alarm_and_belongs_to_one_organization(database: Database) -> None:
    usage, clock = UsageStore(database), VirtualClock(FEBRUARY.end)
    usage.seal([to_seal(HOURS[1], seen(HOURS[1]))], clock.now_ms())
    store = ReconciliationStore(database)
    for organization, findings in (("other", 1), (ACME, 0)):
        settings = UsageSettings(reconcile_not_provisioned=(f"{organization}/*/*",))
        Reconciler(database, Provisioner(), settings, clock).reconcile_new()
        assert store.differing_since(clock.now_ms()) == {ACME: findings}
    for pattern in ("orders", "acme/orders", "*/prod/orders", "acme/prod/a/b"):
        with pytest.raises(ValidationError):
            UsageSettings(reconcile_not_provisioned=(pattern,))


def test_nothing_closed_is_nothing_compared(database: Database) -> None:
    reconciler, _ = make_reconciler(database, running())
    assert reconciler.reconcile(ACME, FEBRUARY) == Reconciliation()
    assert reconciler.reconcile_new() == 0
