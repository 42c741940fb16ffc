"""From the key of a row to the slot of its series: for keys that are new, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collector.exposition import Reading
from collector.labels import METRIC_NAME
from collector.scrape.families import FamilyNames
from collector.scrape.forms import Form, Forms
from collector.scrape.plan import BILLING, BULK, DENIED, DROPPED, HELD, TOO_LONG, Codes, code_of
from collector.scrape.series import Admitted, Outcome, SeriesRules
from collector.scrape.stream import Newcomers, Stream
from collector.wire.distinct import distinct

SLICE = 2_000  # new keys that are worked on at a time
_CODES = {Outcome.DROPPED: DROPPED, Outcome.DENIED: DENIED, Outcome.TOO_LONG: TOO_LONG}


@dataclass(slots=True)
class Held:
    """A series that has no slot: it waits for room, or others have its labels and another origin."""

    series: Admitted
    is_collided: bool = False


@dataclass(slots=True)
class _Leaving:
    """Rows of series that may leave, one of each."""

    rows: npt.NDArray[np.int32]
    keys: npt.NDArray[np.int32]  # their numbers
    forms: Sequence[Form]
    series: Newcomers

    def some(self, places: npt.NDArray[np.intp]) -> _Leaving:
        if len(places) == len(self.rows):
            return self
        forms = [self.forms[at] for at in places.tolist()]
        return _Leaving(self.rows[places], self.keys[places], forms, self.series.some(places))

    def admitted(self, place: int) -> Admitted:
        form, series = self.forms[place], self.series
        entry = form.kind + series.labels[place]
        return Admitted(entry, form.family, int(series.origins[place]), form.is_billing)


class Placing:
    """Gives codes to keys, by the keys' numbers. `held` are those of the codes HELD and below."""

    def __init__(self, rules: SeriesRules, streams: Sequence[Stream]) -> None:
        self.held: list[Held] = []
        self.families: list[str] = []
        self._rules = rules
        self._forms = Forms(rules)
        self._streams = streams
        self._veiled: set[int] = set()  # families of which a series leaves with a pseudonym
        self._by_labels: dict[bytes, int] = {}  # of the held ones
        self._numbers: dict[str, int] = {}

    def follow_policy(self) -> None:
        """Decide by the policy that holds now; no key has a code any more."""
        self._forms.reset()
        self.held, self._by_labels, self._veiled = [], {}, set()

    def rest(self) -> None:
        """No key was new: what was learnt for those of before can be learnt again."""
        self._forms.forget()

    def place(self, reading: Reading, codes: Codes, *, holds_all: bool) -> Iterator[None]:
        """Fill in the codes of the keys of the fresh rows, a slice between two steps.

        `holds_all`: nothing gets a slot before there is room for it.
        """
        self._forms.follow(reading.types)
        for start in range(0, len(reading.fresh), SLICE):
            leaving = self._decide(reading, start, codes)
            if self._by_labels or leaving.series.has_equals():
                leaving, twins = self._apart(leaving, codes)
            else:
                twins = []
            for lane, stream in enumerate(self._streams):
                is_ours = np.array([_lane(form.is_billing) == lane for form in leaving.forms], np.bool_)
                ours = leaving.some(np.flatnonzero(is_ours))
                new = self._find(lane, stream, ours, codes)
                if holds_all:
                    codes[new.keys] = [self._hold(new.admitted(place)) for place in range(len(new.rows))]
                else:
                    self._take(lane, stream, new, reading, codes)
            for key, other in twins:
                codes[key] = codes[other]
            reading.release(reading.fresh[start : start + SLICE])
            yield

    def check_limits(self, reading: Reading) -> None:
        """Raises LimitExceeded when a new series has too many labels, or too long ones."""
        if self._rules.has_limits:
            for key in reading.keys(reading.fresh):
                name, labels = reading.parse(key)
                self._rules.check_limits({**labels, METRIC_NAME: name})

    def release(self, numbers: Sequence[int], codes: Codes) -> None:
        """Held series get slots, and their keys the codes of these."""
        for lane, stream in enumerate(self._streams):
            ours = [number for number in numbers if _lane(self.held[number].series.is_billing) == lane]
            some = [self.held[number].series for number in ours]
            new = code_of(lane, stream.take(self.newcomers(some)))
            for number, one, code in zip(ours, some, new.tolist(), strict=True):
                codes[codes == HELD - number] = code
                del self._by_labels[one.entry[1:]]

    def prune(self, codes: Codes) -> None:
        """Forget held series that no key is about; the others are numbered anew. `codes` of all keys there are."""
        if not self.held:
            return
        used = distinct(codes[codes <= HELD])
        if len(used) and len(self.held) <= 2 * len(used) + 1000:
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

    def family_names(self) -> FamilyNames:
        """Of all families met."""
        return FamilyNames(self.families, self._veiled, len(self._veiled))

    def newcomers(self, some: Sequence[Admitted]) -> Newcomers:
        """Single series as a batch."""
        return Newcomers.of(
            [one.entry[1:] for one in some],
            [one.entry[:1] for one in some],
            [one.origin for one in some],
            [self.family(one.family) for one in some],
        )

    def _decide(self, reading: Reading, start: int, codes: Codes) -> _Leaving:
        """Those of a slice of the fresh rows that may leave; the others get their codes."""
        fresh = reading.fresh[start : start + SLICE]
        stays: dict[Outcome, list[int]] = {}
        rows: list[int] = []
        forms: list[Form] = []
        labels: list[bytes] = []
        origins: list[int] = []
        found = self._forms.decide(list(reading.keys(fresh)), reading.parse)
        for row, (form, text, origin) in zip(fresh.tolist(), found, strict=True):
            if form.outcome is not None:
                stays.setdefault(form.outcome, []).append(row)
                continue
            rows.append(row)
            forms.append(form)
            labels.append(text)
            origins.append(origin)
        keys = reading.numbered.rows
        for outcome, some in stays.items():
            codes[keys[some]] = _CODES[outcome]
        families = [self.family(form.family) for form in forms]
        self._veiled.update(map(self.family, {form.family for form in forms if form.is_veiled}))
        series = Newcomers.of(labels, [form.kind for form in forms], origins, families)
        leaving = np.array(rows, np.int32)
        return _Leaving(leaving, keys[leaving], forms, series)

    def _apart(self, leaving: _Leaving, codes: Codes) -> tuple[_Leaving, list[tuple[int, int]]]:
        """Series that differ from each other and from all that are held, and (key, key of the same series) of
        others. What has the labels of a series of another origin is held."""
        keys = leaving.keys.tolist()
        places: dict[bytes, list[int]] = {}
        for place, labels in enumerate(leaving.series.labels):
            same = places.get(labels)
            if labels in self._by_labels:
                codes[keys[place]] = self._hold(leaving.admitted(place))
            elif same is None:
                places[labels] = [place]
            elif leaving.series.origins[same[0]] == leaving.series.origins[place]:
                same.append(place)
            else:
                del places[labels]
                self._hold(leaving.admitted(same[0]))
                codes[[keys[one] for one in (*same, place)]] = self._hold(leaving.admitted(place))
        twins = [(keys[other], keys[first]) for first, *others in places.values() for other in others]
        return leaving.some(np.array([same[0] for same in places.values()], np.intp)), twins

    def _find(self, lane: int, stream: Stream, ours: _Leaving, codes: Codes) -> _Leaving:
        """Of series of one lane, which differ from each other and from all that are held, those without a slot."""
        slots = stream.find(ours.series)
        is_known = slots >= 0
        codes[ours.keys[is_known]] = code_of(lane, slots[is_known])
        return ours.some(np.flatnonzero(~is_known))

    def _take(self, lane: int, stream: Stream, new: _Leaving, reading: Reading, codes: Codes) -> None:
        slots = stream.take(new.series)
        stream.values[slots] = reading.values[new.rows]
        codes[new.keys] = code_of(lane, slots)

    def _hold(self, one: Admitted) -> int:
        labels = one.entry[1:]
        number = self._by_labels.get(labels)
        if number is None:
            number = self._by_labels[labels] = len(self.held)
            self.held.append(Held(one))
        elif self.held[number].series.origin != one.origin:
            self.held[number].is_collided = True
        return HELD - number


def _lane(is_billing: bool) -> int:
    return BILLING if is_billing else BULK
