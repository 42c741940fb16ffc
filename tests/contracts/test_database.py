"""What the database must do: run on SQLite and PostgreSQL."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from kernel.database import Database, DatabaseUnavailable

tables = sa.MetaData()
capacity = sa.Table("capacity", tables, sa.Column("name", sa.Text, primary_key=True), sa.Column("free", sa.Integer))
reservations = sa.Table(
    "reservations",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("holder", sa.Text, unique=True, nullable=False),
)


@pytest.fixture
def stocked(database: Database) -> Database:
    """Room for two reservations of 4."""

    def stock(connection: sa.Connection) -> None:
        tables.create_all(connection)
        connection.execute(sa.insert(capacity).values(name="licence", free=9))

    database.transact(stock)
    return database


def reserve(connection: sa.Connection, holder: str) -> bool:
    query = sa.select(capacity.c.free).where(capacity.c.name == "licence").with_for_update()
    free = connection.execute(query).scalar_one()
    if free < 4:
        return False
    connection.execute(sa.update(capacity).values(free=free - 4))
    connection.execute(sa.insert(reservations).values(holder=holder))
    return True


def reserve_as_process(url: str, number: int) -> bool:
    database = Database(url)
    try:
        return database.transact(partial(reserve, holder=f"process-{number}"))
    finally:
        database.close()


def count(database: Database) -> int:
    query = sa.select(sa.func.count()).select_from(reservations)
    return database.transact(lambda connection: connection.execute(query).scalar_one())


def test_of_eight_threads_two_fit(stocked: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(lambda i: stocked.transact(partial(reserve, holder=f"t{i}")), range(8)))
    assert admitted.count(True) == 2
    assert count(stocked) == 2


@pytest.mark.slow
def test_of_eight_processes_two_fit(stocked: Database) -> None:
    url = stocked.url.render_as_string(hide_password=False)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    with server.Pool(4) as processes:
        admitted = processes.starmap(reserve_as_process, [(url, number) for number in range(8)], chunksize=1)
    assert admitted.count(True) == 2
    assert count(stocked) == 2


def test_what_raises_leaves_nothing(stocked: Database) -> None:
    def reserve_and_fail(connection: sa.Connection) -> None:
        reserve(connection, "org-a")
        raise LookupError("after the insert")

    with pytest.raises(LookupError):
        stocked.transact(reserve_and_fail)
    assert count(stocked) == 0


def test_a_constraint_that_breaks_is_not_tried_again(stocked: Database) -> None:
    calls = 0

    def insert(connection: sa.Connection) -> None:
        nonlocal calls
        calls += 1
        connection.execute(sa.insert(reservations).values(holder="org-a"))

    stocked.transact(insert)
    with pytest.raises(IntegrityError):
        stocked.transact(insert)
    assert calls == 2


def test_a_passing_failure_is_tried_again_whole(stocked: Database) -> None:
    calls = 0

    def insert_third_time_lucky(connection: sa.Connection) -> None:
        nonlocal calls
        calls += 1
        connection.execute(sa.insert(reservations).values(holder="org-a"))
        if calls < 3:
            raise OperationalError("COMMIT", {}, Exception("database is locked"))

    stocked.transact(insert_third_time_lucky)
    assert calls == 3
    assert count(stocked) == 1


def test_a_failure_that_does_not_pass_is_unavailable(stocked: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.database.ATTEMPTS", 3)

    def always_busy(_connection: sa.Connection) -> None:
        raise OperationalError("COMMIT", {}, Exception("database is locked"))

    with pytest.raises(DatabaseUnavailable, match="attempts"):
        stocked.transact(always_busy)


async def test_a_transaction_runs_beside_the_event_loop(stocked: Database) -> None:
    assert await stocked.run(partial(reserve, holder="org-a"))
    assert count(stocked) == 1


def test_big_integers_and_text_come_back(database: Database) -> None:
    wide = sa.Table("wide", sa.MetaData(), sa.Column("at_ms", sa.BigInteger), sa.Column("note", sa.Text))

    def store(connection: sa.Connection) -> list[object]:
        wide.create(connection)
        connection.execute(sa.insert(wide).values(at_ms=2**62, note="günstig 用量"))
        return list(connection.execute(sa.select(wide)).one())

    assert database.transact(store) == [2**62, "günstig 用量"]
