"""Questions to the ledger of what left: what, when, how much, which series. Reads while another process writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector import left_store as store
from collector.left_chain import Head, Kind
from collector.left_rollup import DAY_MS, HOUR_MS, parse_sum
from collector.left_sums import LaneSum, Sum
from collector.left_verify import Verdict, verify

GRAINS_MS = {"hour": HOUR_MS, "day": DAY_MS}


@dataclass(frozen=True, slots=True)
class Period:
    """When the gateway had it: [since_ms, until_ms). A sum that began inside counts whole, a day at most."""

    since_ms: int = 0
    until_ms: int = 2**63 - 1

    def holds(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class FamilyLeft:
    """What left of one metric family. Times in ms, of the sums that hold it: exact to the minute at first."""

    name: str
    samples: int
    bytes: int
    series: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class FamilyPeriod:
    """What left of one family in an hour or a day that begins at `start_ms`."""

    start_ms: int
    name: str
    samples: int
    bytes: int


@dataclass(frozen=True, slots=True)
class LaneLeft:
    """What left in a lane and epoch: `bytes` as sent. `ranges`: sequences, [first, last]; none of the oldest."""

    lane: str
    epoch: int
    frames: int
    samples: int
    bytes: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ReceiverLeft:
    """What went to one receiver of `remote_write` of one metric. Bytes before compression; times as of families."""

    receiver: str
    name: str
    samples: int
    bytes: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all lanes. `unlisted`: first sights of series that were over the bound and are only counted."""

    frames: int
    samples: int
    compressed_bytes: int
    listed: int
    unlisted: int


class LeftReader:
    """Blocking. Raises LedgerBroken for a sum that can't be read, sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._connection = store.connect_to_read(path)

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def families(self, period: Period | None = None) -> list[FamilyLeft]:
        """By name."""
        period = period or Period()
        series = dict(self._listed_by_family(period))
        found: dict[str, list[int]] = {}
        for one in self._sums(period):
            for name, (samples, size) in one.families.items():
                row = found.setdefault(name, [0, 0, one.from_ms, one.to_ms])
                row[0] += samples
                row[1] += size
                row[2], row[3] = min(row[2], one.from_ms), max(row[3], one.to_ms)
        return [
            FamilyLeft(name, row[0], row[1], series.get(name, 0), *row[2:]) for name, row in sorted(found.items())
        ]

    def periods(self, grain: str, period: Period | None = None, family: str | None = None) -> list[FamilyPeriod]:
        """By time, then name. `grain`: hour or day; what was rolled up into days stays one row."""
        size_ms = GRAINS_MS[grain]
        found: dict[tuple[int, str], list[int]] = {}
        for one in self._sums(period or Period()):
            start = one.from_ms - one.from_ms % size_ms
            for name, (samples, size) in one.families.items():
                if family is None or name == family:
                    row = found.setdefault((start, name), [0, 0])
                    row[0] += samples
                    row[1] += size
        return [FamilyPeriod(*key, *row) for key, row in sorted(found.items())]

    def series(
        self, family: str | None = None, limit: int = 1000, period: Period | None = None
    ) -> list[tuple[str, int]]:
        """(series, ms when it first left), by name; of one family or of all, new in the period."""
        period = period or Period()
        return self._connection.execute(
            "SELECT labels, first_ms FROM series WHERE (?1 IS NULL OR family = ?1) AND first_ms >= ?2"
            " AND first_ms < ?3 ORDER BY family, labels LIMIT ?4",
            (family, period.since_ms, period.until_ms, limit),
        ).fetchall()

    def events(self, period: Period | None = None) -> list[dict[str, Any]]:
        """Changes of the policy, gaps, stops of shipping, in order."""
        period = period or Period()
        found = [event for one in store.rollups(self._connection) for event in parse_sum(one).events]
        for entry in store.entries(self._connection, (Kind.POLICY, Kind.GAP, Kind.SHIPPING)):
            fields = entry.fields()
            if "repeats" not in fields:
                found.append({"sequence": entry.sequence, "at_ms": entry.at_ms, "kind": entry.kind, **fields})
        return [event for event in found if period.holds(int(event["at_ms"]))]

    def lanes(self, period: Period | None = None) -> list[LaneLeft]:
        """By lane and epoch."""
        found: dict[tuple[str, int], LaneSum] = {}
        for one in self._sums(period or Period()):
            for name, epochs in one.lanes.items():
                for epoch, lane in epochs.items():
                    found.setdefault((name, epoch), LaneSum()).merge(lane)
        return [
            LaneLeft(*key, one.frames, one.samples, one.bytes, tuple((first, last) for first, last in one.ranges))
            for key, one in sorted(found.items())
        ]

    def receivers(self, period: Period | None = None) -> list[ReceiverLeft]:
        """By receiver, then name."""
        found: dict[tuple[str, str], list[int]] = {}
        for one in self._sums(period or Period()):
            for receiver, total in one.receivers.items():
                for name, (samples, size) in total.families.items():
                    row = found.setdefault((receiver, name), [0, 0, one.from_ms, one.to_ms])
                    row[0] += samples
                    row[1] += size
                    row[2], row[3] = min(row[2], one.from_ms), max(row[3], one.to_ms)
        return [ReceiverLeft(*key, *row) for key, row in sorted(found.items())]

    def totals(self, period: Period | None = None) -> Totals:
        """Over all families and lanes."""
        period = period or Period()
        lanes = self.lanes(period)
        unlisted = sum(one.unlisted for one in self._sums(period))
        listed = sum(count for _, count in self._listed_by_family(period))
        return Totals(
            sum(lane.frames for lane in lanes),
            sum(lane.samples for lane in lanes),
            sum(lane.bytes for lane in lanes),
            listed,
            unlisted,
        )

    def verify(self, kept: Head | None = None) -> Verdict:
        """Whether the chain holds."""
        return verify(self._connection, kept)

    def _listed_by_family(self, period: Period) -> list[tuple[str, int]]:
        return self._connection.execute(
            "SELECT family, count(*) FROM series WHERE first_ms >= ? AND first_ms < ? GROUP BY family",
            (period.since_ms, period.until_ms),
        ).fetchall()

    def _sums(self, period: Period) -> Iterator[Sum]:
        for row in store.rollups(self._connection):
            found = parse_sum(row)
            if period.holds(found.from_ms):
                yield found
        for entry in store.entries(self._connection, (Kind.LEFT,)):
            found = parse_sum(entry)
            if period.holds(found.from_ms):
                yield found


def is_ledger(path: Path) -> bool:
    """Whether there is one of this version."""
    if not path.is_file():
        return False
    try:
        LeftReader(path).close()
    except sqlite3.DatabaseError:
        return False
    return True
