"""What one target's series are from scrape to scrape: new, known, vanished. Pure: no clock, no I/O.

Each method makes a `Scrape`: ticks to send, one a lane. The caller encodes and stores them lane by lane and then
calls `stored`; only what was stored counts as sent when the next scrape asks what vanished. One call at a time, on
any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from collector.exposition import PageNeeded, PageStream, Reading, Rows, new_reader
from collector.exposition.lexing import OPENMETRICS
from collector.scrape.beginnings import Beginnings
from collector.scrape.census import Census
from collector.scrape.families import FamilyTexts
from collector.scrape.index import NO_SLOTS
from collector.scrape.limit import over_limit
from collector.scrape.placing import Placing
from collector.scrape.plan import LANES, LanePlan, Plan, RowFacts, make_plan
from collector.scrape.series import Outcome, SeriesRules, shown
from collector.scrape.stream import Stream
from collector.scrape.ticks import LaneMaker, LaneScrape, Scrape, add_samples
from collector.wire.frames import Block
from collector.wire.headers import PushLane

AUTO_METRICS = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
PART = 5_000  # new series that are told at a time: of each there is a text for the ledger
LANE_NAMES = (PushLane.BILLING, PushLane.BULK)


class TargetState:
    """The series of one target."""

    def __init__(self, rules: SeriesRules, *, honor_timestamps: bool, sample_limit: int) -> None:
        self._rules = rules
        self._honor_timestamps = honor_timestamps
        self._limit = sample_limit
        self._reader = self._streamed_by = new_reader()
        self.streams = tuple(Stream() for _ in LANES)
        self._placing = Placing(rules, self.streams)
        self._census = Census(self.streams)
        self._texts = FamilyTexts(self.streams)
        self._beginnings = Beginnings(self.streams)
        self._plan = make_plan(self._census.codes, RowFacts(None, None, None), self.streams)
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

    def stream(self, content_type: str) -> PageStream | None:
        """What reads the next body as it comes, for `scraped_stream`; None: it has to be whole."""
        self._follow_policy()
        self._streamed_by = self._reader
        return self._reader.stream(content_type)

    def scraped_stream(self, stream: PageStream, at_ms: int, seconds: float) -> Iterator[Scrape]:
        """As `scraped_in_parts`, of a body that is whole. Raises PageNeeded, too: have it read that way."""
        self._follow_policy()
        if self._streamed_by is not self._reader:
            raise PageNeeded("the policy is another one")
        yield from self._take(stream.finish(), at_ms, seconds, PART)

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
            scrape.lanes.append(LaneScrape(tick, nothing, add_samples({}, stream, slots), stream.unlisted))
        return scrape

    def encode(self, scrape: Scrape, lane: int, group: int) -> list[Block]:
        """The blocks of one lane for a group of the spool; none: there is nothing to say."""
        return self.streams[lane].encode(scrape.lanes[lane].tick, group)

    def stored(self, scrape: Scrape, lane: int) -> None:
        """This lane of the scrape is safe in the spool."""
        stream, ours = self.streams[lane], scrape.lanes[lane]
        stream.stored(ours.sent)
        stream.unlisted = stream.unlisted[len(ours.new) :]
        if not scrape.is_announcement:
            self._texts.listed(lane)
        self._auto_sent = self._auto_sent or not scrape.is_announcement

    def families(self, scrape: Scrape, lane: int) -> dict[str, int]:
        """Samples of a lane by metric family."""
        names = self._placing.families
        return {names[family]: count for family, count in scrape.lanes[lane].counts.items()}

    def new_series(self, scrape: Scrape, lane: int) -> list[tuple[str, str]]:
        """(family, series) of those that the ledger does not have yet."""
        names, stream, slots = self._placing.families, self.streams[lane], scrape.lanes[lane].new
        families = [names[number] for number in stream.families[slots].tolist()]
        listed = list(zip(families, shown(stream.table.entries(slots)), strict=True))
        return listed if scrape.is_announcement else listed + self._texts.unlisted(lane)

    # -- rows ------------------------------------------------------------------------------------------------

    def _follow_policy(self) -> None:
        """Under another policy every series is decided anew; one that may leave no more ends."""
        version = self._rules.policy.version  # read before any decision
        if version == self._policy:
            return
        self._policy = version
        self._placing.follow_policy()
        self._census.reset()
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
        if reading.is_same:
            self._placing.rest()
            plan = self._plan if not self._limit or self._is_as_sent() else self._replan(reading)
        else:
            self._placing.check_limits(reading)
            self._free_unused()
            for stream in self.streams:
                stream.watches_created = reading.grammar is OPENMETRICS
            codes, numbered = self._census.reserve(reading.numbered.limit), reading.numbered
            for _ in self._placing.place(reading, codes, holds_all=not self._has_room(reading)):
                if part and sum(len(stream.unlisted) for stream in self.streams) >= part:
                    yield self._announce(at_ms)
            self._census.follow(numbered)
            plan = self._replan(reading)
            self._beginnings.follow(is_counted=reading.grammar is OPENMETRICS)
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

    def _has_room(self, reading: Reading) -> bool:
        """Whether there is room under sample_limit for all new series, even if each row is one."""
        census, fresh = self._census, len(reading.fresh)
        if not self._limit or len(reading) <= self._limit:
            return True
        if census.has_held or self._are_dated(reading):
            return False
        return census.leaving - census.leaving_among(reading.numbered.gone) + fresh <= self._limit

    def _are_dated(self, reading: Reading) -> bool:
        return self._honor_timestamps and bool(reading.timestamps)

    def _replan(self, reading: Reading) -> Plan:
        census, numbered = self._census, reading.numbered
        self._may_free = True
        if not census.has_held:
            self._placing.prune(census.codes)
        plan = None if self._are_dated(reading) else census.plan(numbered)
        if plan is not None and (not self._limit or plan.relabelled - plan.denied - plan.too_long <= self._limit):
            return plan
        is_dated = None
        if self._are_dated(reading):
            is_dated = np.zeros(len(reading), np.bool_)
            is_dated[list(reading.timestamps)] = True
        facts = RowFacts(reading.order(), is_dated, None)
        if self._limit:
            codes = census.codes[numbered.rows]
            over, release = over_limit(self._limit, codes, facts, self.streams, self._placing.held)
            self._placing.release(release, census.codes)
            facts = replace(facts, is_over_limit=over)
        if self._placing.held:
            self._placing.prune(census.codes)
            census.recount(numbered)
        return make_plan(census.codes[numbered.rows], facts, self.streams)

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
            unused = stream.table.live()
            for used in (ours.referenced, stream.sent, stream.reported):
                some = unused[: len(used)]
                np.greater(some, used[: len(some)], out=some)  # not those that are used
            stream.free(np.flatnonzero(unused).astype(np.int32))

    # -- ticks -----------------------------------------------------------------------------------------------

    def _make_lanes(
        self, scrape: Scrape, plan: Plan | None, reading: Reading | None, auto: tuple[float, ...]
    ) -> None:
        for lane, stream in enumerate(self.streams):
            places = zip(self._auto, auto, strict=True)
            ours = [(place[1], value) for place, value in places if place is not None and place[0] == lane]
            maker = LaneMaker(scrape, stream, ours)
            if plan is None or reading is None:
                maker.without_rows()
            else:
                policy, families = self._rules.policy, self._placing.family_names()
                told = self._texts.told(lane, plan.lanes[lane], reading, families, policy)
                maker.of_rows(plan.lanes[lane], reading, policy, told)
        if plan is not None:  # the values of all lanes are there
            for lane, one in enumerate(scrape.lanes):
                one.tick.starts = one.tick.starts or self._beginnings.starts(lane)


def _last(scrapes: Iterator[Scrape]) -> Scrape:
    *_, last = scrapes
    return last


__all__ = ["AUTO_METRICS", "LANE_NAMES", "NO_SLOTS", "LaneScrape", "Scrape", "TargetState"]
