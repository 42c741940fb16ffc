"""The ledger's file: SQLite in the spool folder, written in whole transactions. All methods block."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from collector.left_chain import GENESIS, Entry, Head, Rollup, entry_hash
from collector.left_sums import Ranges

SCHEMA_VERSION = 2
MAX_RANGES = 64
MAX_EPOCHS = 256
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entry (
    sequence INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL,
    previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entry_kind ON entry (kind) WHERE kind <> 'left';
CREATE TABLE IF NOT EXISTS rollup (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, level TEXT NOT NULL, content TEXT NOT NULL,
    previous TEXT NOT NULL, hash TEXT NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS series (
    number INTEGER PRIMARY KEY, family TEXT NOT NULL, labels TEXT NOT NULL, first_ms INTEGER NOT NULL,
    entry INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS series_entry ON series (entry);
CREATE TABLE IF NOT EXISTS position (
    lane TEXT NOT NULL, epoch INTEGER NOT NULL, ranges TEXT NOT NULL, PRIMARY KEY (lane, epoch)) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""
_SERIES_ROW = "%d\t%s\t%s\n"
_UNIQUE = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_autoindex_series_1'"
_ENTRY = "SELECT sequence, at_ms, kind, content, previous, hash FROM entry"
_ROLLUP = "SELECT first, last, level, content, previous, hash, digest FROM rollup"


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits survive a power cut, once they return."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. Raises sqlite3.DatabaseError for a file that is no such ledger."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"a ledger of version {version}; this one is {SCHEMA_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: sqlite3.Connection) -> None:
    """Make the tables. Raises sqlite3.DatabaseError for a file that is no ledger of this version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"a ledger of version {version}; this one is {SCHEMA_VERSION}")
    if connection.execute(_UNIQUE).fetchone():
        _drop_unique(connection)
    connection.executescript(_SCHEMA)


def _drop_unique(connection: sqlite3.Connection) -> None:
    """Series of a ledger of before had an index by name, which nothing can take from a table."""
    with transaction(connection):
        if not connection.execute(_UNIQUE).fetchone():
            return  # another process was first
        connection.execute("DROP INDEX IF EXISTS series_entry")
        connection.execute("ALTER TABLE series RENAME TO series_before")
        connection.execute(
            "CREATE TABLE series (number INTEGER PRIMARY KEY, family TEXT NOT NULL, labels TEXT NOT NULL,"
            " first_ms INTEGER NOT NULL, entry INTEGER NOT NULL)"
        )
        connection.execute("INSERT INTO series SELECT number, family, labels, first_ms, entry FROM series_before")
        connection.execute("DROP TABLE series_before")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def head(connection: sqlite3.Connection) -> Head:
    """The last entry, still open or not; 0 and zeros when there is none."""
    row = connection.execute("SELECT sequence, hash FROM entry ORDER BY sequence DESC LIMIT 1").fetchone()
    if row is None:
        row = connection.execute("SELECT last, hash FROM rollup ORDER BY first DESC LIMIT 1").fetchone()
    return Head(*row) if row else Head(0, GENESIS)


def append(connection: sqlite3.Connection, previous: Head, at_ms: int, kind: str, content: str) -> Entry:
    """Add an entry after `previous`, which is the head."""
    sequence = previous.sequence + 1
    made = entry_hash(sequence, at_ms, kind, content, previous.hash)
    entry = Entry(sequence, at_ms, kind, content, previous.hash, made)
    connection.execute(
        "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", (sequence, at_ms, kind, content, previous.hash, made)
    )
    return entry


def rewrite(connection: sqlite3.Connection, open_entry: Entry, content: str) -> Entry:
    """Put more into the entry that is open, which is the head."""
    one = open_entry
    made = entry_hash(one.sequence, one.at_ms, one.kind, content, one.previous)
    connection.execute("UPDATE entry SET content = ?, hash = ? WHERE sequence = ?", (content, made, one.sequence))
    return Entry(one.sequence, one.at_ms, one.kind, content, one.previous, made)


def entries(connection: sqlite3.Connection, kinds: tuple[str, ...] = ()) -> Iterator[Entry]:
    """In order; of these kinds, or all."""
    marks = ",".join("?" * len(kinds))
    where = f" WHERE kind IN ({marks})" if kinds else ""
    for row in connection.execute(f"{_ENTRY}{where} ORDER BY sequence", kinds):
        yield Entry(*row)


def last_entry(connection: sqlite3.Connection, kind: str) -> Entry | None:
    """The newest of a kind."""
    row = connection.execute(f"{_ENTRY} WHERE kind = ? ORDER BY sequence DESC LIMIT 1", (kind,)).fetchone()
    return Entry(*row) if row else None


def rollups(connection: sqlite3.Connection, level: str | None = None) -> Iterator[Rollup]:
    """In order; of this level, or all."""
    for row in connection.execute(f"{_ROLLUP} WHERE ?1 IS NULL OR level = ?1 ORDER BY first", (level,)):
        yield Rollup(*row)


def series_digest(connection: sqlite3.Connection, first: int, last: int) -> tuple[int, str]:
    """How many series entries `first` to `last` listed, and the SHA-256 of their rows, see `series_row`."""
    rows = connection.execute(
        "SELECT first_ms, family, labels FROM series WHERE entry BETWEEN ? AND ? ORDER BY number", (first, last)
    )
    count, digest = 0, sha256()
    for row in rows:
        count += 1
        digest.update(series_row(*row))
    return count, digest.hexdigest() if count else ""


def list_series(
    connection: sqlite3.Connection, entry: int, first_ms: int, names: Sequence[tuple[str, str]]
) -> bytes:
    """Add series, (family, labels), that an entry lists; what the digest covers of them."""
    connection.executemany(
        "INSERT INTO series (family, labels, first_ms, entry) VALUES (?, ?, ?, ?)",
        [(family, labels, first_ms, entry) for family, labels in names],
    )
    rows = [_SERIES_ROW % (first_ms, family, labels) for family, labels in names]
    return "".join(rows).encode("utf-8", "surrogatepass")


def newest_series(connection: sqlite3.Connection) -> int:
    """The number of the series listed last; 0: none."""
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM series").fetchone()
    return int(number)


def series_after(connection: sqlite3.Connection, number: int, most: int) -> tuple[list[tuple[str, str]], int]:
    """(family, labels) of series listed after this one, in order, and the number of the last."""
    rows = connection.execute(
        "SELECT number, family, labels FROM series WHERE number > ? ORDER BY number LIMIT ?", (number, most)
    ).fetchall()
    return [(family, labels) for _, family, labels in rows], rows[-1][0] if rows else number


def series_row(first_ms: int, family: str, labels: str) -> bytes:
    """What the digest of new series covers, a line for each."""
    return (_SERIES_ROW % (first_ms, family, labels)).encode("utf-8", "surrogatepass")


def load_ranges(connection: sqlite3.Connection, lane: str, epoch: int) -> Ranges:
    """The sequences of a lane and epoch that were counted."""
    row = connection.execute("SELECT ranges FROM position WHERE lane = ? AND epoch = ?", (lane, epoch)).fetchone()
    return [list(map(int, one)) for one in json.loads(row[0])] if row else []


def save_ranges(connection: sqlite3.Connection, lane: str, epoch: int, ranges: Ranges) -> None:
    """Replace them."""
    connection.execute(
        "INSERT INTO position VALUES (?, ?, ?) ON CONFLICT (lane, epoch) DO UPDATE SET ranges = excluded.ranges",
        (lane, epoch, json.dumps(ranges)),
    )


def forget_epochs(connection: sqlite3.Connection) -> None:
    """Drop the ranges of epochs long past: the spool has none of their frames any more."""
    for (lane,) in connection.execute("SELECT DISTINCT lane FROM position").fetchall():
        connection.execute(
            "DELETE FROM position WHERE lane = ?1 AND epoch NOT IN"
            " (SELECT epoch FROM position WHERE lane = ?1 ORDER BY epoch DESC LIMIT ?2)",
            (lane, MAX_EPOCHS),
        )


def open_ledger(path: Path) -> sqlite3.Connection:
    """A connection to a ledger that is whole, made if need be. Raises sqlite3.Error."""
    connection = connect(path)
    try:
        create(connection)
    except BaseException:
        connection.close()
        raise
    return connection
