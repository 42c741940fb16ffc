"""What a scrape says of each lane: the values by slot, what ended, what has a time of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from collector.exposition import Reading
from collector.policy import Policy
from collector.scrape.extras import exemplar_rows, histogram_rows, start_rows
from collector.scrape.index import NO_SLOTS, Bools, Slots
from collector.scrape.plan import LanePlan
from collector.scrape.stream import Stream
from collector.scrape.times import MAX_AHEAD_MS, earliest_ms
from collector.wire.distinct import is_among
from collector.wire.frames import Dated, FamilyMetadata, HistogramRow, Tick


@dataclass(slots=True)
class LaneScrape:
    """One lane's part of a scrape. `sent`: slots that can go stale once this is stored. `counts`: by family."""

    tick: Tick
    sent: Bools
    counts: Mapping[int, int]
    new: Slots  # those that the ledger does not have yet


@dataclass(slots=True)
class Scrape:
    """What one scrape of one target gives, and what became of the rows."""

    at_ms: int
    lanes: list[LaneScrape] = field(default_factory=list)
    scraped: int = 0
    denied: int = 0  # rows the policy kept inside
    over_limit: int = 0
    duplicates: int = 0
    collided: int = 0  # rows whose labels the policy made equal to another's
    too_new: int = 0  # rows that the target dated far ahead of our clock
    too_old: int = 0  # rows that the target dated over 400 days back
    too_long: int = 0  # rows whose labels or native histogram do not fit into a frame
    added: int = 0
    relabelled: int = 0
    is_announcement: bool = False  # of series whose samples come with a later one

    def fates(self) -> Mapping[str, int]:
        """What became of how many rows, by the names that metrics and the log have."""
        return {
            "scraped": self.scraped,
            "denied": self.denied,
            "over_limit": self.over_limit,
            "duplicate": self.duplicates,
            "collided": self.collided,
            "too_new": self.too_new,
            "too_old": self.too_old,
            "too_long": self.too_long,
        }

    def size(self, lane: int) -> int:
        """About how much there is to encode of a lane."""
        return len(self.lanes[lane].tick.values)


class LaneMaker:
    """Makes the next lane of a scrape. `reported`: slots of series about the scrape, with their values."""

    def __init__(self, scrape: Scrape, stream: Stream, reported: Sequence[tuple[int, float]]) -> None:
        self._scrape = scrape
        self._stream = stream
        self._reported = reported
        self._counts: dict[int, int] = {}

    def without_rows(self) -> None:
        """The target gave nothing: what was there ends."""
        self._add(np.zeros(self._stream.capacity, np.bool_), NO_SLOTS, {})

    def of_rows(
        self, ours: LanePlan, reading: Reading, policy: Policy, told: Sequence[FamilyMetadata] = ()
    ) -> None:
        """The rows of a reading, as planned, and what is told of their families."""
        stream = self._stream
        stream.values[ours.slots] = reading.values if ours.rows is None else reading.values[ours.rows]
        self._counts = dict(ours.counts)
        extras: dict[str, object] = {"metadata": told}
        no_number = NO_SLOTS
        if len(ours.dated_rows):
            extras["dated"] = self._dated(ours, reading)
        if reading.histograms:
            no_number = ours.slots[is_among(ours.numbered_rows(), np.array(list(reading.histograms), np.int64))]
            extras["histograms"] = self._histograms(ours, reading, no_number)
        if reading.exemplars:
            extras["exemplars"] = exemplar_rows(ours, reading, self._scrape.at_ms, policy)
        if reading.created:
            extras["starts"] = start_rows(ours, reading, self._scrape.at_ms)
        self._add(stream.padded(ours.present), no_number, extras)

    def _histograms(self, ours: LanePlan, reading: Reading, planned: Slots) -> Sequence[HistogramRow]:
        """Those that leave; the plan counted those at `planned`, which have no times of their own."""
        found, too_long = histogram_rows(ours, reading, self._scrape.at_ms)
        self._scrape.too_long += too_long
        add_samples(self._counts, self._stream, planned, -1)
        add_samples(self._counts, self._stream, np.array([row.slot for row in found], np.int32))
        return found

    def _dated(self, ours: LanePlan, reading: Reading) -> Dated:
        stream, scrape, rows = self._stream, self._scrape, ours.dated_rows.tolist()
        times = np.array([reading.timestamps[row] for row in rows], np.int64)
        is_apart = ~stream.collided[ours.dated_slots]
        too_new, too_old = times > scrape.at_ms + MAX_AHEAD_MS, times < earliest_ms(scrape.at_ms)
        in_time = ~too_new & ~too_old
        scrape.too_new += int(np.count_nonzero(too_new))
        scrape.too_old += int(np.count_nonzero(too_old))
        scrape.collided += int(np.count_nonzero(in_time & ~is_apart))
        is_number = np.array([row not in reading.histograms for row in rows], np.bool_)
        kept = in_time & is_apart & is_number
        slots: Slots = ours.dated_slots[kept]
        add_samples(self._counts, stream, slots)
        return Dated(slots, times[kept], reading.values[ours.dated_rows[kept]])

    def _add(self, present: Bools, no_number: Slots, extras: Mapping[str, object]) -> None:
        stream, counts = self._stream, self._counts
        stale = np.flatnonzero(stream.padded(stream.sent) & ~present).astype(np.int32)
        add_samples(counts, stream, stale)
        valued = present.copy()
        valued[no_number] = False
        for slot, value in self._reported:
            if not present[slot]:
                stream.values[slot] = value
                valued[slot] = True
                family = int(stream.families[slot])
                counts[family] = counts.get(family, 0) + 1
        everything = int(np.count_nonzero(valued)) == len(stream.table)
        tick = stream.tick(self._scrape.at_ms, None if everything else valued, stale, **extras)
        self._scrape.lanes.append(LaneScrape(tick, present, counts, stream.unlisted))


def add_samples(counts: dict[int, int], stream: Stream, slots: Slots, by: int = 1) -> dict[int, int]:
    """Count one sample more (`by` more) of the family of each slot."""
    if len(slots):
        numbers = np.bincount(stream.families[slots])
        for family in np.flatnonzero(numbers).tolist():
            counts[family] = counts.get(family, 0) + by * int(numbers[family])
    return counts
