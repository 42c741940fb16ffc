"""What one target's series are from scrape to scrape: new, known, vanished. Pure: no clock, no I/O.

Each method makes a `Scrape`: ticks to send, one a lane. The caller encodes and stores them lane by lane and then
calls `stored`; only what was stored counts as sent when the next scrape asks what vanished. One call at a time, on
any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from collector.exposition import Reading, Rows, new_reader
from collector.scrape.extras import exemplar_rows, histogram_rows
from collector.scrape.index import NO_SLOTS, Bools, Slots
from collector.scrape.placing import Placing
from collector.scrape.plan import HELD, LANES, Codes, LanePlan, Plan, RowFacts, RowIndex, make_plan
from collector.scrape.series import Outcome, SeriesRules, shown
from collector.scrape.stream import Stream
from collector.wire.distinct import distinct, is_among
from collector.wire.frames import Block, Dated, Tick
from collector.wire.headers import PushLane

AUTO_METRICS = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
PART = 5_000  # new series that are told at a time: of each there is a text for the ledger
MAX_AHEAD_MS = 600_000  # of a target's own timestamps over our clock; Prometheus' bound
LANE_NAMES = (PushLane.BILLING, PushLane.BULK)


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
    too_long: int = 0  # rows whose labels do not fit into a frame
    added: int = 0
    relabelled: int = 0
    is_announcement: bool = False  # of series whose samples come with a later one

    def size(self, lane: int) -> int:
        """About how much there is to encode of a lane."""
        return len(self.lanes[lane].tick.values)


class TargetState:
    """The series of one target."""

    def __init__(self, rules: SeriesRules, *, honor_timestamps: bool, sample_limit: int) -> None:
        self._rules = rules
        self._honor_timestamps = honor_timestamps
        self._limit = sample_limit
        self._reader = new_reader()
        self.streams = tuple(Stream() for _ in LANES)
        self._placing = Placing(rules, self.streams, holds_all=sample_limit > 0)
        self._codes = np.empty(0, np.int32)
        self._plan = make_plan(self._codes, RowFacts(None, None, None), self.streams)
        self._auto: list[tuple[int, int] | None] = []  # (lane, slot) of each of AUTO_METRICS; None: denied
        self._auto_sent = False
        self._may_free = False
        self._policy: object = None
        self._follow_policy()

    def scraped(self, body: bytearray, content_type: str, at_ms: int, seconds: float) -> Scrape:
        """What a body gives. `body` is scratch space. Raises ExpositionError, LimitExceeded; then call `failed`."""
        return _last(self.scraped_in_parts(body, content_type, at_ms, seconds, part=0))

    def scraped_in_parts(
        self, body: bytearray, content_type: str, at_ms: int, seconds: float, part: int = PART
    ) -> Iterator[Scrape]:
        """The same, the last that comes; before it, scrapes that only say which series there are, `part` of them
        each (0: none such). Store each before you ask for the next. Raises before the first of them.
        """
        self._follow_policy()
        yield from self._take(self._reader.read(body, content_type), at_ms, seconds, part)

    def scraped_rows(self, rows: Rows, at_ms: int, seconds: float) -> Scrape:
        """The same for rows that were read from another format. Raises LimitExceeded."""
        self._follow_policy()
        return _last(self._take(self._reader.take(rows), at_ms, seconds, 0))

    def failed(self, at_ms: int, seconds: float) -> Scrape:
        """The target did not answer: every series ends, `up` is 0. Their slots are kept for when it is back."""
        self._follow_policy()
        scrape = Scrape(at_ms)
        self._make_lanes(scrape, None, None, (0.0, seconds, 0.0, 0.0, 0.0))
        return scrape

    def ended(self, at_ms: int) -> Scrape:
        """The target is gone, or the collector stops: every series ends, `up` too."""
        scrape = Scrape(at_ms)
        for stream in self.streams:
            stale = stream.sent | stream.reported if self._auto_sent else stream.sent
            nothing = np.zeros(stream.capacity, np.bool_)
            slots = np.flatnonzero(stale[: stream.capacity]).astype(np.int32)
            tick = stream.tick(at_ms, nothing, slots)
            scrape.lanes.append(LaneScrape(tick, nothing, _added({}, stream, slots), stream.unlisted))
        return scrape

    def encode(self, scrape: Scrape, lane: int, group: int) -> list[Block]:
        """The blocks of one lane for a group of the spool; none: there is nothing to say."""
        return self.streams[lane].encode(scrape.lanes[lane].tick, group)

    def stored(self, scrape: Scrape, lane: int) -> None:
        """This lane of the scrape is safe in the spool."""
        stream, ours = self.streams[lane], scrape.lanes[lane]
        stream.stored(ours.sent)
        stream.unlisted = stream.unlisted[len(ours.new) :]
        self._auto_sent = self._auto_sent or not scrape.is_announcement

    def families(self, scrape: Scrape, lane: int) -> dict[str, int]:
        """Samples of a lane by metric family."""
        names = self._placing.families
        return {names[family]: count for family, count in scrape.lanes[lane].counts.items()}

    def new_series(self, scrape: Scrape, lane: int) -> list[tuple[str, str]]:
        """(family, series) of those that the ledger does not have yet."""
        names, stream, slots = self._placing.families, self.streams[lane], scrape.lanes[lane].new
        families = [names[number] for number in stream.families[slots].tolist()]
        return list(zip(families, map(shown, stream.table.entries(slots)), strict=True))

    # -- rows ------------------------------------------------------------------------------------------------

    def _follow_policy(self) -> None:
        """Under another policy every series is decided anew; one that may leave no more ends."""
        version = self._rules.policy.version  # read before any decision
        if version == self._policy:
            return
        self._policy = version
        self._placing.follow_policy()
        self._reader = new_reader()
        self._may_free = True
        for stream in self.streams:
            stream.collided[:] = False
            if self._auto_sent:
                stream.sent |= stream.reported
            stream.reported[:] = False
        self._auto = [self._report(name) for name in AUTO_METRICS]

    def _report(self, name: str) -> tuple[int, int] | None:
        admitted = self._rules.reported(name)
        if isinstance(admitted, Outcome):
            return None
        lane = 0 if admitted.is_billing else 1
        stream = self.streams[lane]
        series = self._placing.newcomers([admitted])
        slot = int(stream.find(series)[0])
        if slot < 0:
            slot = int(stream.take(series)[0])
        stream.reported[slot] = True
        stream.sent[slot] = False
        return lane, slot

    def _take(self, reading: Reading, at_ms: int, seconds: float, part: int) -> Iterator[Scrape]:
        if reading.previous is None:
            self._placing.rest()
            plan = self._plan if not self._limit or self._is_as_sent() else self._replan(reading, self._codes)
        else:
            self._placing.check_limits(reading)
            self._free_unused()
            codes = np.empty(len(reading), np.int32)
            is_known = reading.previous >= 0
            codes[is_known] = self._codes[reading.previous[is_known]]
            for _ in self._placing.place(reading, codes):
                if part and sum(len(stream.unlisted) for stream in self.streams) >= part:
                    yield self._announce(at_ms)
            plan = self._replan(reading, codes)
            self._reader.keep(reading)
        self._plan = plan
        scrape = Scrape(
            at_ms, [], plan.row_count, plan.denied, plan.over_limit, plan.duplicates, plan.collided,
            too_long=plan.too_long, relabelled=plan.relabelled,
        )  # fmt: skip
        scrape.added = sum(
            self._count_added(stream, ours) for stream, ours in zip(self.streams, plan.lanes, strict=True)
        )
        self._make_lanes(scrape, plan, reading, (1.0, seconds, plan.row_count, plan.relabelled, scrape.added))
        yield scrape

    def _announce(self, at_ms: int) -> Scrape:
        """The series that got a slot so far, without a sample."""
        scrape = Scrape(at_ms, is_announcement=True)
        for stream in self.streams:
            tick = stream.tick(at_ms, np.zeros(stream.capacity, np.bool_), NO_SLOTS)
            sent = stream.sent[: stream.capacity].copy()
            scrape.lanes.append(LaneScrape(tick, sent, {}, stream.unlisted))
        return scrape

    def _replan(self, reading: Reading, codes: Codes) -> Plan:
        is_dated = None
        if self._honor_timestamps and reading.timestamps:
            is_dated = np.zeros(len(codes), np.bool_)
            is_dated[list(reading.timestamps)] = True
        order = reading.order()
        over = self._apply_limit(codes, order, is_dated) if self._limit else None
        self._placing.prune(codes)
        self._codes = codes
        self._may_free = True
        return make_plan(codes, RowFacts(order, is_dated, over), self.streams)

    def _apply_limit(self, codes: Codes, order: RowIndex | None, is_dated: Bools | None) -> Bools:
        """Known series stay; new ones, in the order of the body, as long as there is room. True: left out."""
        held = self._placing.held
        rows = np.arange(len(codes)) if order is None else np.argsort(order, kind="stable")
        dated = np.zeros(len(codes), np.bool_) if is_dated is None else is_dated
        known = np.zeros(len(codes), np.bool_)
        for lane, stream in enumerate(self.streams):
            ours = np.flatnonzero((codes >= 0) & ((codes & 1) == lane))
            known[ours] = stream.sent[codes[ours] >> 1]
        room = self._limit - len(distinct(codes[known & ~dated])) - int(np.count_nonzero(dated & (codes != -1)))
        over = np.zeros(len(codes), np.bool_)
        seen: dict[int, bool] = {}
        release: list[int] = []
        for row in rows[~known[rows]].tolist():
            code = int(codes[row])
            is_held = code <= HELD
            if code < 0 and not is_held:
                continue
            if is_held and held[HELD - code].is_collided:
                continue
            if code not in seen:
                seen[code] = bool(dated[row]) or room > 0
                room -= not dated[row]
                if seen[code] and is_held:
                    release.append(HELD - code)
            over[row] = not seen[code]
        self._placing.release(release, codes)
        return over

    def _is_as_sent(self) -> bool:
        """Whether the last stored scrape was of the rows that the plan is for."""
        return all(
            np.array_equal(stream.sent[: len(ours.present)], ours.present)
            for stream, ours in zip(self.streams, self._plan.lanes, strict=True)
        )

    def _count_added(self, stream: Stream, ours: LanePlan) -> int:
        return int(np.count_nonzero(ours.present & ~stream.sent[: len(ours.present)]))

    def _free_unused(self) -> None:
        """Slots that no row of the last body was about, whose stale markers are stored."""
        if not self._may_free:
            return
        self._may_free = False
        for stream, ours in zip(self.streams, self._plan.lanes, strict=True):
            kept = stream.padded(ours.referenced) | stream.padded(stream.sent) | stream.padded(stream.reported)
            stream.free(np.flatnonzero(stream.table.live() & ~kept).astype(np.int32))

    # -- ticks -----------------------------------------------------------------------------------------------

    def _make_lanes(
        self, scrape: Scrape, plan: Plan | None, reading: Reading | None, auto: tuple[float, ...]
    ) -> None:
        for lane, stream in enumerate(self.streams):
            ours = None if plan is None else plan.lanes[lane]
            present = np.zeros(stream.capacity, np.bool_) if ours is None else stream.padded(ours.present)
            extras: dict[str, object] = {}
            counts: dict[int, int] = {}
            if ours is not None and reading is not None:
                stream.values[ours.slots] = reading.values[ours.rows]
                counts = dict(ours.counts)
                extras = self._extras(scrape, ours, reading, counts, stream)
            stale = np.flatnonzero(stream.padded(stream.sent) & ~present).astype(np.int32)
            _added(counts, stream, stale)
            valued = present.copy()
            if reading is not None and reading.histograms and ours is not None:
                valued[ours.slots[is_among(ours.rows, np.array(list(reading.histograms), np.int64))]] = False
            for place, value in zip(self._auto, auto, strict=True):
                if place is not None and place[0] == lane and not present[place[1]]:
                    stream.values[place[1]] = value
                    valued[place[1]] = True
                    family = int(stream.families[place[1]])
                    counts[family] = counts.get(family, 0) + 1
            everything = int(np.count_nonzero(valued)) == len(stream.table)
            tick = stream.tick(scrape.at_ms, None if everything else valued, stale, **extras)
            scrape.lanes.append(LaneScrape(tick, present, counts, stream.unlisted))

    def _extras(
        self, scrape: Scrape, ours: LanePlan, reading: Reading, counts: dict[int, int], stream: Stream
    ) -> dict[str, object]:
        """Dated rows, histograms and exemplars of a lane."""
        extras: dict[str, object] = {}
        if len(ours.dated_rows):
            times = np.array([reading.timestamps[row] for row in ours.dated_rows.tolist()], np.int64)
            is_apart = ~stream.collided[ours.dated_slots]
            in_time = times <= scrape.at_ms + MAX_AHEAD_MS
            scrape.too_new += int(np.count_nonzero(~in_time))
            scrape.collided += int(np.count_nonzero(in_time & ~is_apart))
            is_number = np.array([row not in reading.histograms for row in ours.dated_rows.tolist()], np.bool_)
            kept = in_time & is_apart & is_number
            slots: Slots = ours.dated_slots[kept]
            extras["dated"] = Dated(slots, times[kept], reading.values[ours.dated_rows[kept]])
            _added(counts, stream, slots)
        if reading.histograms:
            extras["histograms"] = histogram_rows(ours, reading, scrape.at_ms)
        if reading.exemplars:
            extras["exemplars"] = exemplar_rows(ours, reading, scrape.at_ms, self._rules.policy)
        return extras


def _last(scrapes: Iterator[Scrape]) -> Scrape:
    *_, last = scrapes
    return last


def _added(counts: dict[int, int], stream: Stream, slots: Slots) -> dict[int, int]:
    """Count one sample more of the family of each slot."""
    if len(slots):
        families, numbers = np.unique(stream.families[slots], return_counts=True)
        for family, number in zip(families.tolist(), numbers.tolist(), strict=True):
            counts[family] = counts.get(family, 0) + number
    return counts


__all__ = ["AUTO_METRICS", "LANE_NAMES", "MAX_AHEAD_MS", "NO_SLOTS", "LaneScrape", "Scrape", "TargetState"]
