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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from kernel.errors import Retry

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
_SERIALIZATION_FAILURES = {"40001", "40P01"}  # serialization_failure, deadlock_detected


class DatabaseUnavailable(Retry):
    """The database can't be reached, or stayed busy for all attempts. Nothing was committed."""


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
        serialization failures or when the database can't be reached.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.engine.begin() as connection:
                    return transaction(connection)
            except IntegrityError:
                raise
            except DBAPIError as error:
                if not _is_passing(error):
                    raise
                if attempt == ATTEMPTS:
                    raise DatabaseUnavailable(f"the database stayed busy for {ATTEMPTS} attempts") from error
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # between attempts no lock is held
        raise AssertionError("unreachable")

    async def run(self, transaction: Transaction[T]) -> T:
        """`transact`, from the event loop."""
        return await asyncio.to_thread(self.transact, transaction)

    def close(self) -> None:
        """Release the pool. Idempotent."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def _is_passing(error: DBAPIError) -> bool:
    if getattr(error.orig, "sqlstate", None) in _SERIALIZATION_FAILURES or error.connection_invalidated:
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
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
