"""The tables of the SQLite log, and its connections.

A record's row id is `partition id << 40 | offset`: one B-tree, in the order it is read, with no second index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel.errors import truncate
from kernel.log import LogCorrupt, LogUnavailable

OFFSET_BITS = 40  # 10^12 records a partition, 8 million partitions
BUSY_TIMEOUT_SECONDS = 30.0
# Records of 20 kB pass the default of 4 MB in 200 appends, and every checkpoint writes them a second time.
_CHECKPOINT_PAGES = 4096

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (
    topic TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL REFERENCES topics,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0,
    last_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
);
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY,
    timestamp_ms INTEGER NOT NULL,
    key BLOB NOT NULL,
    headers TEXT NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS groups (
    name TEXT PRIMARY KEY,
    generation INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    name TEXT NOT NULL,
    member TEXT NOT NULL,
    process TEXT NOT NULL,
    topics TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (name, member)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    name TEXT NOT NULL,
    partition_id INTEGER NOT NULL REFERENCES partitions,
    owner TEXT,
    epoch INTEGER NOT NULL,
    next_offset INTEGER,
    PRIMARY KEY (name, partition_id)
) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are fsynced. Used by one thread at a time, whichever."""
    with mapped_errors():
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    return connection


def create_schema(path: Path) -> None:
    """Create the file and what tables it lacks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path)
    try:
        with mapped_errors(), transaction(connection):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
    finally:
        connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One writing transaction: begun IMMEDIATE, so that what is read in it can't change before it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def mapped_errors() -> Iterator[None]:
    """SQLite's errors as the port's. Raises LogUnavailable, LogCorrupt."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
        raise LogUnavailable(f"the log file does not answer ({truncate(str(error))}): try again") from error
    except sqlite3.DatabaseError as error:
        raise LogCorrupt(f"the log file can't be read ({truncate(str(error))}): restore it from a copy") from error


def first_id(partition_id: int, offset: int = 0) -> int:
    """The row id of the record at that offset."""
    return partition_id << OFFSET_BITS | offset


def offset_of(row_id: int) -> int:
    """The offset of the record in that row."""
    return row_id & ((1 << OFFSET_BITS) - 1)
