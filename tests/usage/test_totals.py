"""What is kept of a month is what reading it gave, for as long as reading it would give that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from console.migrate import migrate
from kernel.database import Database
from kernel.window import HOUR_MS, QUARTER_MS, Window
from metering.usage.model import UsageMonth
from metering.usage.models import usage_totals
from metering.usage.month import month_and_revisions
from metering.usage.store import HoursMoved, UsageStore
from metering.usage.totals import keep_month
from tests.databases import open_migrated
from tests.usage.months import ACME, seen, to_seal
from tests.usage.test_store import HALF, HOURS, SPAN, T0


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
    """Three hours of two clusters, one of them not seen for a half of the first."""
    store = UsageStore(database, keeping=True)
    for hour in HOURS:
        until_ms = HALF if hour is HOURS[0] else HOUR_MS
        views = seen(hour, until_ms=until_ms), seen(hour, 1000, cluster="search")
        store.seal([to_seal(hour, *views)], T0)
    return store


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        found.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(database.engine, "before_cursor_execute", note)


def everything(usage: UsageMonth) -> list[object]:
    rows = usage.rows
    return [usage, rows.sums, rows.root, tuple(rows), list(rows.canonical), rows.leaves, usage.observed_ms]


@pytest.mark.parametrize(
    "window",
    [SPAN, Window(SPAN.start_ms + QUARTER_MS, SPAN.end_ms), Window(HOURS[1].start_ms, HOURS[1].end_ms)],
    ids=["hours", "cut at a quarter", "one hour"],
)
def test_what_is_kept_is_what_was_read(store: UsageStore, database: Database, window: Window) -> None:
    with statements(database) as asked:
        first = store.month(ACME, window)
    assert [one for one in asked if "usage_rows" in one]
    with statements(database) as asked:
        second = store.month(ACME, window)
        assert (second.revision_digest, second.rows.root) == (first.revision_digest, first.rows.root)
        assert second.rows.sums == first.rows.sums
        assert second.step == first.step
    assert not [one for one in asked if "usage_rows" in one], "it was read row by row again"
    assert everything(second) == everything(first) == everything(UsageStore(database).month(ACME, window))


def test_an_hour_that_is_sealed_again_makes_it_another_month(store: UsageStore) -> None:
    before = store.month(ACME, SPAN)
    kept = store.month(ACME, SPAN)
    store.seal([to_seal(HOURS[0], seen(HOURS[0]), seen(HOURS[0], 1000, cluster="search"))], T0)
    after = store.month(ACME, SPAN)
    assert after.revision_digest != before.revision_digest == kept.revision_digest
    assert after.missing_ms == 0 != before.missing_ms
    assert everything(store.month(ACME, SPAN)) == everything(after)
    with pytest.raises(HoursMoved, match=r"acme: an hour of .* was sealed again meanwhile"):
        tuple(kept.rows)  # the rows that are there now are not those that were added up


def test_nothing_is_kept_of_a_month_that_is_not_over(store: UsageStore, database: Database) -> None:
    longer = Window(SPAN.start_ms, SPAN.end_ms + HOUR_MS)
    assert not store.month(ACME, longer).sealed
    assert not database.read(lambda connection: connection.execute(sa.select(usage_totals)).all())
    store.seal([to_seal(Window(SPAN.end_ms, SPAN.end_ms + HOUR_MS))], T0)
    assert store.month(ACME, longer).sealed
    assert len(database.read(lambda connection: connection.execute(sa.select(usage_totals)).all())) == 1


def test_a_store_that_does_not_keep_writes_nothing(store: UsageStore, database: Database) -> None:
    UsageStore(database).month(ACME, SPAN)
    assert not database.read(lambda connection: connection.execute(sa.select(usage_totals)).all())


def test_content_of_other_code_is_passed_over(store: UsageStore, database: Database) -> None:
    first = store.month(ACME, SPAN)
    database.transact(lambda connection: connection.execute(sa.update(usage_totals).values(code=0, content=b"?")))
    assert everything(store.month(ACME, SPAN)) == everything(first)


def test_two_that_read_a_month_at_once_both_keep_it(store: UsageStore, database: Database) -> None:
    """`byoc up` and `byoc close`: the second writes while the first has not committed."""
    found, revisions = database.read(lambda connection: month_and_revisions(connection, ACME, SPAN))
    has_written = threading.Event()

    def keep(*, is_first: bool) -> None:
        def write(connection: sa.Connection) -> None:
            keep_month(connection, found, SPAN, revisions)
            if is_first:
                has_written.set()
                time.sleep(0.2)  # as long as it takes the other to come here

        if not is_first:
            has_written.wait()
        database.transact(write)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(keep, is_first=is_first) for is_first in (True, False)]:
            done.result()
    assert everything(store.month(ACME, SPAN)) == everything(found)
