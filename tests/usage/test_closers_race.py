"""`byoc up` and `byoc close` may seal the same hours at once: the newer sight wins, whoever commits last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.window import Window
from metering.usage.store import HoursMoved, UsageStore
from tests.usage.months import ACME, seen, to_seal
from tests.usage.test_closer import MINUTE, SPAN, T0, databases, minutes, vendor

__all__ = ["databases"]
FIRST_HOUR = Window(T0, T0 + 60 * MINUTE)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    sqlite = sqlite_url(tmp_path / "byoc.sqlite")
    database = Database(sqlite if request.param == "sqlite" else request.getfixturevalue("migrated_postgres_url"))
    migrate(database)
    yield database
    database.close()


async def test_two_closers_at_once_seal_each_hour_once(databases: Path, database: Database) -> None:
    """Both see the same files and write the same figures; neither fails, and no hour gets a second revision."""
    stores = [UsageStore(database), UsageStore(database)]
    closers = []
    for store in stores:
        acme = vendor(databases)
        acme.lake.add(minutes(0, 719))
        acme.closer._store = store
        closers.append(acme.closer)
    written: list[int] = []

    def close(index: int, together: threading.Barrier) -> None:
        together.wait()
        for _ in range(20):
            try:
                written.append(asyncio.run(closers[index]._close(ACME, SPAN, from_first_file=False)))
            except HoursMoved:
                continue
            return
        raise AssertionError("never got its turn")

    together = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(close, index, together) for index in range(2)]:
            await asyncio.wrap_future(done)
    rows = stores[0].month(ACME, SPAN).rows
    assert {row.revision for row in rows} == {1}
    assert len({row.hour for row in rows}) == 12
    assert sum(written) <= 12


async def test_an_older_sight_does_not_seal_over_a_newer_one(databases: Path, database: Database) -> None:
    """
    a closer looks at the checks and lists one file
    another file comes; a second closer lists both and seals
    the first one, which computed from one file, is told to look again; the newer figures stand
    """
    acme = vendor(databases)
    acme.closer._store = UsageStore(database)
    acme.lake.add(minutes(0, 59, vcpu=4.0))
    before = acme.closer._store.checked(ACME, FIRST_HOUR)
    assert await acme.closer.close_window(ACME, FIRST_HOUR) == 1
    acme.lake.add(minutes(0, 59, vcpu=2.0, cluster="billing"))
    assert await acme.closer.close_window(ACME, FIRST_HOUR) == 1
    newer = acme.closer._store.month(ACME, FIRST_HOUR)

    late = vendor(databases)
    late.closer._store = acme.closer._store
    late.lake.add(minutes(0, 59, vcpu=4.0))
    original = late.closer._store.checked
    late.closer._store.checked = lambda organization, window: dict(before)  # type: ignore[method-assign]
    with pytest.raises(HoursMoved):
        await late.closer._close(ACME, FIRST_HOUR, from_first_file=False)
    late.closer._store.checked = original  # type: ignore[method-assign]
    assert acme.closer._store.month(ACME, FIRST_HOUR) == newer


async def test_what_another_closer_left_to_be_looked_at_is_seen_though_no_file_came(
    databases: Path, database: Database
) -> None:
    """
    a closer has found nothing to do, and remembers what it saw
    another one sealed an hour again, which leaves the hour after it to be looked at, and died
    the first one looks, though it sees the same files
    """
    acme = vendor(databases)
    acme.closer._store = store = UsageStore(database)
    acme.lake.add(minutes(0, 719))
    while await acme.closer.close_due(ACME):
        pass
    assert await acme.closer.close_due(ACME) == 0
    closed = store.checked(ACME, SPAN)
    store.seal([to_seal(FIRST_HOUR, seen(FIRST_HOUR, 9000), files=closed[T0])], T0 + 1)
    assert len(store.checked(ACME, SPAN)) == len(closed) - 1
    await acme.closer.close_due(ACME)
    assert store.checked(ACME, SPAN).keys() == closed.keys()
