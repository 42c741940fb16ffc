"""The ledger of what left the VPC: by metric family, with counts and bytes, and series by series up to a bound.

A frame is counted when the gateway has acknowledged it, before the spool forgets it, and once: the ledger keeps the
last position it counted. Bytes are those of the body before compression. SQLite in the spool folder.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collector.left_meta import FrameMeta, parse_meta
from collector.spool.frame import Frame
from kernel.clock import Clock
from kernel.logs import logger

_log = logger("left")
MAX_FAMILIES = 20_000
OTHER_FAMILIES = "(other families)"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS family (
    name TEXT PRIMARY KEY, samples INTEGER NOT NULL, bytes INTEGER NOT NULL, series INTEGER NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (
    family TEXT NOT NULL, labels TEXT NOT NULL, first_ms INTEGER NOT NULL,
    PRIMARY KEY (family, labels)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    lane TEXT PRIMARY KEY, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, bytes_sent INTEGER NOT NULL,
    unlisted INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class FamilyLeft:
    """What left of one metric family; times in ms are when the gateway had it."""

    name: str
    samples: int
    bytes: int
    series: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all lanes. `unlisted`: first sights of series that were over the bound and are only counted."""

    compressed_bytes: int
    listed: int
    unlisted: int


class LeftLedger:
    """Blocking throughout. One process writes; others may read."""

    def __init__(self, path: Path, clock: Clock, max_series: int) -> None:
        self._path = path
        self._clock = clock
        self._max_series = max_series

    def open(self) -> None:
        """Create or open; a file that is no ledger is moved aside, and said so."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with self._connection() as connection:
                connection.executescript(_SCHEMA)
                connection.execute("SELECT count(*) FROM position")
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{self._clock.now_ms()}")
            self._path.replace(aside)
            _log.error("ledger_damaged", moved_to=str(aside), error=str(error))
            with self._connection() as connection:
                connection.executescript(_SCHEMA)

    def count(self, frame: Frame) -> None:
        """Add a frame that the gateway has; nothing if it was added before. Raises sqlite3.Error."""
        try:
            meta = parse_meta(frame.meta)
        except ValueError as error:
            _log.error("frame_not_listed", sequence=frame.sequence, error=str(error))
            meta = FrameMeta({"(unknown)": (frame.samples, len(frame.payload))})
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            if self._is_new(connection, frame):
                self._add(connection, frame, meta)
            connection.execute("COMMIT")

    def families(self) -> list[FamilyLeft]:
        """By name."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT name, samples, bytes, series, first_ms, last_ms FROM family ORDER BY name"
            ).fetchall()
        return [FamilyLeft(*row) for row in rows]

    def series(self, family: str | None = None, limit: int = 1000) -> list[tuple[str, int]]:
        """(series, ms when it first left), by name; of one family or of all."""
        with self._connection() as connection:
            return connection.execute(
                "SELECT labels, first_ms FROM series WHERE ?1 IS NULL OR family = ?1"
                " ORDER BY family, labels LIMIT ?2",
                (family, limit),
            ).fetchall()

    def totals(self) -> Totals:
        """Over all families."""
        with self._connection() as connection:
            sent, unlisted = connection.execute(
                "SELECT coalesce(sum(bytes_sent), 0), coalesce(sum(unlisted), 0) FROM position"
            ).fetchone()
            (listed,) = connection.execute("SELECT count(*) FROM series").fetchone()
        return Totals(sent, listed, unlisted)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            yield connection
        finally:
            connection.close()

    def _is_new(self, connection: sqlite3.Connection, frame: Frame) -> bool:
        row = connection.execute(
            "SELECT epoch, sequence FROM position WHERE lane = ?", (frame.lane.value,)
        ).fetchone()
        return row is None or frame.position > tuple(row)

    def _add(self, connection: sqlite3.Connection, frame: Frame, meta: FrameMeta) -> None:
        now = self._clock.now_ms()
        (known,) = connection.execute("SELECT count(*) FROM family").fetchone()
        for name, (samples, size) in meta.families.items():
            shown = name if known < MAX_FAMILIES else self._known_family(connection, name)
            connection.execute(
                "INSERT INTO family VALUES (?, ?, ?, 0, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                " samples = samples + excluded.samples, bytes = bytes + excluded.bytes, last_ms = excluded.last_ms",
                (shown, samples, size, now, now),
            )
        unlisted = self._list(connection, meta, now)
        connection.execute(
            "INSERT INTO position VALUES (?, ?, ?, ?, ?) ON CONFLICT (lane) DO UPDATE SET"
            " epoch = excluded.epoch, sequence = excluded.sequence, bytes_sent = bytes_sent + excluded.bytes_sent,"
            " unlisted = unlisted + excluded.unlisted",
            (frame.lane.value, frame.epoch, frame.sequence, len(frame.payload), unlisted),
        )

    @staticmethod
    def _known_family(connection: sqlite3.Connection, name: str) -> str:
        found = connection.execute("SELECT 1 FROM family WHERE name = ?", (name,)).fetchone()
        return name if found else OTHER_FAMILIES

    def _list(self, connection: sqlite3.Connection, meta: FrameMeta, now: int) -> int:
        """Add the new series up to the bound; returns how many did not fit."""
        if not meta.new:
            return 0
        (count,) = connection.execute("SELECT count(*) FROM series").fetchone()
        unlisted = 0
        for family, labels in meta.new:
            if count >= self._max_series:
                unlisted += 1
                continue
            added = connection.execute(
                "INSERT OR IGNORE INTO series VALUES (?, ?, ?)", (family, labels, now)
            ).rowcount
            if added:
                count += 1
                connection.execute("UPDATE family SET series = series + 1 WHERE name = ?", (family,))
        return unlisted
