"""From the key of a row to the slot of its series: for keys that are new, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from collector.exposition import RawSeries, Reading, family_of
from collector.exposition.columns import MetricType
from collector.labels import METRIC_NAME
from collector.scrape.plan import BILLING, BULK, DENIED, DROPPED, HELD, TOO_LONG, Codes, code_of
from collector.scrape.series import Admitted, Outcome, SeriesRules
from collector.scrape.stream import Stream
from collector.wire.distinct import distinct

SLICE = 2_000  # new keys that are worked on at a time
_CODES = {Outcome.DROPPED: DROPPED, Outcome.DENIED: DENIED, Outcome.TOO_LONG: TOO_LONG}


@dataclass(slots=True)
class Held:
    """A series that has no slot: it waits for room, or others have its labels and another origin."""

    series: Admitted
    is_collided: bool = False


class Placing:
    """Gives codes to keys. `held` are those of the codes HELD and below."""

    def __init__(self, rules: SeriesRules, streams: Sequence[Stream], *, holds_all: bool) -> None:
        self.held: list[Held] = []
        self.families: list[str] = []
        self._rules = rules
        self._streams = streams
        self._holds_all = holds_all  # nothing gets a slot before there is room for it
        self._by_labels: dict[bytes, int] = {}  # of the held ones
        self._numbers: dict[str, int] = {}

    def place(self, reading: Reading, codes: Codes) -> Iterator[None]:
        """Fill in the codes of the fresh rows, a slice between two steps."""
        for start in range(0, len(reading.fresh), SLICE):
            rows = reading.fresh[start : start + SLICE]
            admitted = [self._admit(reading, key) for key in reading.keys(rows)]
            self._place(list(zip(rows.tolist(), admitted, strict=True)), reading, codes)
            yield

    def check_limits(self, reading: Reading) -> None:
        """Raises LimitExceeded when a new series has too many labels, or too long ones."""
        if self._rules.has_limits:
            for key in reading.keys(reading.fresh):
                name, labels = reading.parse(key)
                self._rules.check_limits({**labels, METRIC_NAME: name})

    def release(self, numbers: Sequence[int], codes: Codes) -> None:
        """Held series get slots, and their rows the codes of these."""
        for lane, stream in enumerate(self._streams):
            ours = [number for number in numbers if _lane(self.held[number].series) == lane]
            some = [self.held[number].series for number in ours]
            new = code_of(lane, stream.take(some, [self.family(one.family) for one in some]))
            for number, one, code in zip(ours, some, new.tolist(), strict=True):
                codes[codes == HELD - number] = code
                del self._by_labels[one.entry[1:]]

    def prune(self, codes: Codes) -> None:
        """Forget held series that no row is about; the others are numbered anew."""
        used = distinct(codes[codes <= HELD])
        if len(self.held) <= 2 * len(used) + 1000:
            return
        kept = [self.held[HELD - code] for code in used.tolist()]
        is_held = codes <= HELD
        codes[is_held] = HELD - np.searchsorted(used, codes[is_held]).astype(np.int32)
        self.held = kept
        self._by_labels = {one.series.entry[1:]: number for number, one in enumerate(kept)}

    def family(self, name: str) -> int:
        """The number of a family."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.families)
            self.families.append(name)
        return number

    def _admit(self, reading: Reading, key: bytes) -> Admitted | Outcome:
        name, labels = reading.parse(key)
        family = family_of(name, reading.types)
        return self._rules.scraped(RawSeries(name, labels, family, reading.types.get(family, MetricType.UNKNOWN)))

    def _place(self, some: Sequence[tuple[int, Admitted | Outcome]], reading: Reading, codes: Codes) -> None:
        waiting: dict[bytes, tuple[Admitted, list[int]]] = {}
        for row, one in some:
            if isinstance(one, Outcome):
                codes[row] = _CODES[one]
                continue
            labels = one.entry[1:]
            if labels in self._by_labels:
                codes[row] = self._hold(one)
            elif labels in waiting and waiting[labels][0].origin != one.origin:
                first, rows = waiting.pop(labels)
                self._hold(first)
                codes[[*rows, row]] = self._hold(one)
            else:
                waiting.setdefault(labels, (one, []))[1].append(row)
        self._place_apart(list(waiting.values()), reading, codes)

    def _place_apart(self, some: Sequence[tuple[Admitted, list[int]]], reading: Reading, codes: Codes) -> None:
        """Series that differ from each other and from all that are held."""
        for lane, stream in enumerate(self._streams):
            ours = [pair for pair in some if _lane(pair[0]) == lane]
            new = []
            for (one, rows), slot in zip(ours, stream.find([one for one, _ in ours]), strict=True):
                if slot >= 0 and not stream.retyped(slot, one):
                    codes[rows] = slot * 2 + lane
                    continue
                if slot >= 0:
                    stream.give_up(slot)
                new.append((one, rows))
            if self._holds_all:
                for one, rows in new:
                    codes[rows] = self._hold(one)
                continue
            slots = stream.take([one for one, _ in new], [self.family(one.family) for one, _ in new])
            stream.values[slots] = reading.values[[rows[0] for _, rows in new]]
            for (_, rows), code in zip(new, code_of(lane, slots).tolist(), strict=True):
                codes[rows] = code

    def _hold(self, one: Admitted) -> int:
        labels = one.entry[1:]
        number = self._by_labels.get(labels)
        if number is None:
            number = self._by_labels[labels] = len(self.held)
            self.held.append(Held(one))
        elif self.held[number].series.origin != one.origin:
            self.held[number].is_collided = True
        return HELD - number


def _lane(one: Admitted) -> int:
    return BILLING if one.is_billing else BULK
