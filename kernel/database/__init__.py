"""The database port: SQL through SQLAlchemy 2, on SQLite (embedded) and PostgreSQL (scale-out).

One `MetaData` holds the tables of every component (each declares its own in its `models.py`); one chain of
Alembic migrations, in `console/migrations`, creates them on both. A transaction is a plain function of a
`Connection`: it runs in a worker thread, whole, and is tried again when the database says so, so it must have
no effect but on the database.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from kernel.crashpoints import crash_point
from kernel.errors import Retry, truncate

T = TypeVar("T")
Transaction = Callable[[sa.Connection], T]

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ATTEMPTS = 8
ASK_ATTEMPTS = 40  # how a lost COMMIT ended: half a second each, once they are slow
_SERIALIZATION_FAILURES = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_READS = "byoc_reads"
_SERVER_GOES = ("08", "57P")  # connection exceptions, operator intervention: shutdown, crash, still starting
_OWN_NUMBER = sa.text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")
_STATUS_OF = sa.text("SELECT pg_xact_status(CAST(:number AS xid8))")


class DatabaseUnavailable(Retry):
    """The database can't be reached, or stayed busy for all attempts. Nothing was committed."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection was lost in the COMMIT, and the database stayed away: it may hold the transaction or not."""


class Database:
    """A SQLAlchemy engine whose transactions are safe on both databases.

    On SQLite every transaction begins with BEGIN IMMEDIATE: with the driver's own deferred BEGIN,
    `SELECT ... FOR UPDATE` locks nothing and two reservations both see the same free capacity.
    """

    def __init__(self, url: str, *, busy_timeout_seconds: float = 30.0) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.engine = _sqlite_engine(self.url, busy_timeout_seconds)
        else:
            self.engine = sa.create_engine(self.url, pool_size=8, max_overflow=8, pool_pre_ping=True)

    def transact(self, transaction: Transaction[T]) -> T:
        """Run `transaction` in one SQL transaction and commit. Blocking: not on the event loop.

        Raises what `transaction` raises (then nothing is committed), DatabaseUnavailable after repeated
        serialization failures or when the database can't be reached, OutcomeUnknown when it went away in a COMMIT
        and did not come back to be asked.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._try(transaction)
            except IntegrityError:
                raise
            except DBAPIError as error:
                if _is_away(error):
                    raise DatabaseUnavailable(f"no database: {truncate(str(error.orig))}; try again") from error
                if not _is_passing(error):
                    raise
                if attempt == ATTEMPTS:
                    raise DatabaseUnavailable(f"the database stayed busy for {ATTEMPTS} attempts") from error
            _pause(attempt)
        raise AssertionError("unreachable")

    def read(self, reading: Transaction[T]) -> T:
        """`transact` for what only reads: on SQLite one snapshot, and no waiting for the one writer. Blocking."""
        if not self.is_sqlite:
            return self.transact(reading)
        with self.engine.connect().execution_options(**{_READS: True}) as connection, connection.begin():
            return reading(connection)

    def _try(self, transaction: Transaction[T]) -> T:
        with self.engine.connect() as connection, connection.begin() as begun:
            result = transaction(connection)
            # None: nothing was written, so nothing can be in doubt.
            number = None if self.is_sqlite else connection.scalar(_OWN_NUMBER)
            is_writing = self.is_sqlite or number is not None
            if is_writing:
                crash_point("database.committing")
            try:
                begun.commit()
            except DBAPIError as error:
                if number is None or not _is_lost(error) or not self._has_committed(number):
                    raise
        if is_writing:
            crash_point("database.committed")
        return result

    def _has_committed(self, number: str) -> bool:
        """Ask PostgreSQL, over another connection, how a transaction ended. Raises OutcomeUnknown."""
        for attempt in range(1, ASK_ATTEMPTS + 1):
            try:
                with self.engine.connect() as connection:
                    status = connection.scalar(_STATUS_OF, {"number": number})
            except DBAPIError:
                status = "in progress"
            if status != "in progress":
                return bool(status == "committed")
            _pause(attempt)
        raise OutcomeUnknown("the database went away in a COMMIT: look what it holds before you repeat this")

    async def run(self, transaction: Transaction[T]) -> T:
        """`transact`, from the event loop."""
        return await asyncio.to_thread(self.transact, transaction)

    def close(self) -> None:
        """Release the pool. Idempotent."""
        self.engine.dispose()


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`, of either database."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


def upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert or update by primary key, on both databases; the rows have the same columns."""
    if not rows:
        return
    statement = insert(connection, table)
    keys = [column.name for column in table.primary_key]
    values = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), list(rows))


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))  # between attempts no lock is held


def _is_away(error: DBAPIError) -> bool:
    """Whether no connection could be made: then there is no statement yet."""
    return isinstance(error, OperationalError) and error.statement is None and not _is_passing(error)


def _is_lost(error: DBAPIError) -> bool:
    """Whether an answer is missing, or came from a server that goes."""
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith(_SERVER_GOES)


def _is_passing(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _SERIALIZATION_FAILURES or state.startswith(_SERVER_GOES) or error.connection_invalidated:
        return True
    text = str(error.orig).lower()
    return isinstance(error, OperationalError) and ("locked" in text or "busy" in text)


def _sqlite_engine(url: sa.URL, busy_timeout_seconds: float) -> sa.Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": busy_timeout_seconds})

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not open transactions by itself
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(_READS) else "BEGIN IMMEDIATE")

    return engine
