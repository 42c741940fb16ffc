"""Sealed hours on both databases: revisions, months, and that nothing changes what is sealed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from console.migrate import migrate
from kernel.database import Database
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window
from metering.usage.models import usage_hours, usage_rows
from metering.usage.rows import digest_of
from metering.usage.store import UsageStore
from tests.databases import open_migrated
from tests.usage.months import ACME, seen, to_seal

T0 = 1_780_272_000_000
HOURS = [Window(T0 + i * HOUR_MS, T0 + (i + 1) * HOUR_MS) for i in range(3)]
SPAN = Window(HOURS[0].start_ms, HOURS[-1].end_ms)
HALF = HOUR_MS // 2


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = open_migrated(tmp_path / "byoc.sqlite")
    else:
        opened = Database(request.getfixturevalue("migrated_postgres_url"))
        migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> UsageStore:
    return UsageStore(database)


def test_sealing_the_same_figures_again_writes_nothing(store: UsageStore) -> None:
    assert store.seal([to_seal(HOURS[0], seen(HOURS[0]))], T0) == 1
    before = store.month(ACME, SPAN)
    assert store.seal([to_seal(HOURS[0], seen(HOURS[0]), files="b")], T0 + 1) == 0
    assert store.month(ACME, SPAN) == before


def test_a_late_sample_makes_the_next_revision_and_the_month_reads_it(store: UsageStore) -> None:
    """
    00:00  half an hour observed; sealed as revision 1
    later  the other half arrives: revision 2; later still a component more: revision 3
    """
    late = [seen(HOURS[0], until_ms=HALF), seen(HOURS[0])]
    for revision, view in enumerate(late, 1):
        assert store.seal([to_seal(HOURS[0], view)], T0) == 1
        (row,) = store.month(ACME, SPAN).rows
        assert (row.revision, row.observed_ms) == (revision, view.row.observed_ms)
    store.seal([to_seal(HOURS[0], seen(HOURS[0]), seen(HOURS[0], 1000, cluster="search"))], T0)
    assert [(row.cluster, row.revision) for row in store.month(ACME, SPAN).rows] == [("orders", 3), ("search", 3)]


def test_equal_sums_at_another_time_of_the_hour_are_another_revision(store: UsageStore) -> None:
    """Overage depends on when the vCPU were used, so the step function decides beside the figures."""
    store.seal([to_seal(HOURS[0], seen(HOURS[0], until_ms=HALF))], T0)
    assert store.seal([to_seal(HOURS[0], seen(HOURS[0], after_ms=HALF))], T0) == 1
    assert store.month(ACME, SPAN).step.points == ((T0 + HALF, 4000), (T0 + HOUR_MS, 0))


def test_a_month_joins_its_hours_and_an_unsealed_hour_is_zero_and_open(store: UsageStore) -> None:
    """
    00:00  4 vCPU on orders, 1 on search, sealed
    01:00  not closed yet
    02:00  4 vCPU on orders, sealed
    """
    store.seal([to_seal(HOURS[0], seen(HOURS[0]), seen(HOURS[0], 1000, cluster="search"))], T0)
    store.seal([to_seal(HOURS[2], seen(HOURS[2]))], T0)
    usage = store.month(ACME, SPAN)
    assert usage.step == StepFunction.of(
        [(T0, 5000), (T0 + HOUR_MS, 0), (T0 + 2 * HOUR_MS, 4000), (T0 + 3 * HOUR_MS, 0)]
    )
    assert usage.step.integral(SPAN) == sum(row.milli_vcpu_ms for row in usage.rows)
    assert not usage.sealed
    store.seal([to_seal(HOURS[1])], T0)
    assert store.month(ACME, SPAN).sealed


def test_the_months_digest_is_that_of_its_rows_and_changes_with_them(store: UsageStore) -> None:
    store.seal([to_seal(hour, seen(hour)) for hour in HOURS], T0)
    first = store.month(ACME, SPAN)
    assert first.revision_digest == digest_of(reversed(first.rows))
    store.seal([to_seal(HOURS[1], seen(HOURS[1], 5000))], T0)
    assert store.month(ACME, SPAN).revision_digest != first.revision_digest


def test_another_organization_sees_nothing(store: UsageStore) -> None:
    store.seal([to_seal(HOURS[0], seen(HOURS[0]))], T0)
    other = OrganizationId("other-org")
    usage = store.month(other, SPAN)
    assert (tuple(usage.rows), usage.step, usage.sealed) == ((), StepFunction(), False)
    assert store.last_closed_ms(other) is None
    assert store.open_components(other, HOURS[0].end_ms) == frozenset()


def test_what_was_open_is_read_from_the_newest_revision(store: UsageStore) -> None:
    view = seen(HOURS[0])
    store.seal([to_seal(HOURS[0], view, seen(HOURS[0], cluster="search"))], T0)
    store.seal([to_seal(HOURS[0], view)], T0)
    assert store.open_components(ACME, HOURS[0].end_ms) == {view.row.component}
    assert store.open_components(ACME, HOURS[1].end_ms) == frozenset()


def test_checks_remember_the_files_even_when_nothing_changed(store: UsageStore) -> None:
    store.seal([to_seal(HOURS[0], seen(HOURS[0]))], T0)
    other = to_seal(HOURS[0], seen(HOURS[0]), files="b")
    store.seal([other], T0)
    assert store.checked(ACME, SPAN) == {T0: other.files_digest}
    assert store.last_closed_ms(ACME) == HOURS[0].end_ms


def test_a_revised_hour_has_the_hour_after_it_looked_at_again(store: UsageStore) -> None:
    """What is open at its end may have changed; the mark is in the same transaction, so no crash loses it."""
    store.seal([to_seal(hour, seen(hour)) for hour in HOURS], T0)
    assert store.checked(ACME, SPAN).keys() == {hour.start_ms for hour in HOURS}
    store.seal([to_seal(HOURS[0], seen(HOURS[0], 5000))], T0)
    assert store.checked(ACME, SPAN).keys() == {HOURS[0].start_ms, HOURS[2].start_ms}


def test_a_window_that_cuts_a_quarter_of_an_hour_is_refused(store: UsageStore) -> None:
    with pytest.raises(InvalidInput, match="quarters of an hour"):
        store.month(ACME, Window(T0 + 1, T0 + HOUR_MS))


@pytest.mark.parametrize("table", [usage_hours, usage_rows], ids=lambda table: table.name)
def test_sealed_rows_refuse_every_change_by_sql(database: Database, store: UsageStore, table: sa.Table) -> None:
    store.seal([to_seal(HOURS[0], seen(HOURS[0]))], T0)
    before = store.month(ACME, SPAN)
    changes = [f"UPDATE {table.name} SET missing_ms = 0", f"DELETE FROM {table.name}"]
    everything = ", ".join(column.name for column in table.columns)
    if database.is_sqlite:
        changed = everything.replace("missing_ms", "missing_ms + 1")
        changes.append(f"INSERT OR REPLACE INTO {table.name} ({everything}) SELECT {changed} FROM {table.name}")
    else:
        changes.append(f"TRUNCATE {table.name}")
        changes.append(
            f"INSERT INTO {table.name} SELECT * FROM {table.name} WHERE true "
            f"ON CONFLICT ON CONSTRAINT {_primary_key(database, table)} DO UPDATE SET missing_ms = 1"
        )
    for change in changes:
        with pytest.raises(DBAPIError, match="a sealed revision does not change"):
            _execute(database, change)
    assert store.month(ACME, SPAN) == before


def _execute(database: Database, sql: str) -> None:
    def execute(connection: sa.Connection) -> None:
        connection.exec_driver_sql(sql)

    database.transact(execute)


def _primary_key(database: Database, table: sa.Table) -> str:
    def read(connection: sa.Connection) -> str:
        return str(sa.inspect(connection).get_pk_constraint(table.name)["name"])

    return database.transact(read)
