"""When counters began, from the `_created` series of OpenMetrics: of series that leave, told by series that leave.

`a_total{x="1"}` began when `a_created{x="1"}` says; so did the buckets, sums and quantiles of a histogram or
summary. Nothing is done for pages without `_created`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from collector.scrape.index import Slots
from collector.scrape.stream import CREATED, Stream
from collector.wire.distinct import distinct, is_among
from collector.wire.frames import Starts, grown

_COUNTED = frozenset({1, 3, 5})  # counter, histogram, summary: what has a beginning
_SUFFIXES = (b"_total", b"_bucket", b"_count", b"_sum")
_SLICE = 4_096  # entries that are objects at a time
_LATEST_SECONDS = 4e9
_Hashes = npt.NDArray[np.int64]


class _Lane:
    """By slot: the hash of what a series and its `_created` have in common, and the code of that one plus 1."""

    def __init__(self) -> None:
        self.keys: _Hashes = np.zeros(0, np.int64)
        self.sources: Slots = np.zeros(0, np.int32)
        self.last: Starts | None = None

    def grow(self, capacity: int) -> None:
        self.keys, self.sources = grown(self.keys, capacity), grown(self.sources, capacity)


class Beginnings:
    """Of one target. A code is a slot times two, plus its lane."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._reset()

    def _reset(self) -> None:
        self._lanes = [_Lane() for _ in self._streams]
        self._created: dict[int, int] = {}  # hash -> code of the `_created`
        self._hashes: dict[int, int] = {}  # the other way
        self._is_used = False

    def follow(self, *, is_counted: bool) -> None:
        """Take in which slots were given back and taken. Not `is_counted`: the page's format has no `_created`."""
        changes = [stream.changes() for stream in self._streams]
        if not is_counted or not any(stream.has_created for stream in self._streams):
            if self._is_used:
                self._reset()
            return
        fresh = [taken for _, taken in changes]
        if self._is_used:
            self._forget([given_back for given_back, _ in changes])
        else:
            fresh = [np.flatnonzero(stream.table.live()).astype(np.int32) for stream in self._streams]
        self._is_used = True
        self._learn(fresh)

    def starts(self, lane: int) -> Starts | None:
        """Of the slots of a lane whose start is known; the same object as long as nothing changes."""
        ours = self._lanes[lane]
        slots = np.flatnonzero(ours.sources)
        if not len(slots):
            return None
        codes = ours.sources[slots] - 1
        seconds = np.empty(len(slots))
        for number, stream in enumerate(self._streams):
            there = np.flatnonzero(codes & 1 == number)
            seconds[there] = stream.values[codes[there] >> 1]
        usable = np.flatnonzero((seconds > 0) & (seconds < _LATEST_SECONDS))
        found = Starts(slots[usable].astype(np.int32), np.round(seconds[usable] * 1000).astype(np.int64))
        last = ours.last
        if last is None or not (
            np.array_equal(last.slots, found.slots) and np.array_equal(last.starts_ms, found.starts_ms)
        ):
            ours.last = found
        return ours.last

    def _forget(self, given_back: Sequence[Slots]) -> None:
        gone: list[int] = []
        for number, (lane, slots) in enumerate(zip(self._lanes, given_back, strict=True)):
            slots = slots[slots < len(lane.keys)]
            lane.keys[slots], lane.sources[slots] = 0, 0
            for code in (slots * 2 + number).tolist():
                key = self._hashes.pop(code, None)
                if key is not None:
                    gone.append(code + 1)
                    if self._created.get(key) == code:
                        del self._created[key]
        if gone:
            for lane in self._lanes:
                lane.sources[is_among(lane.sources, np.array(gone, np.int32))] = 0

    def _learn(self, fresh: Sequence[Slots]) -> None:
        new: list[int] = []
        for number, (lane, stream, slots) in enumerate(zip(self._lanes, self._streams, fresh, strict=True)):
            lane.grow(stream.capacity)
            for slot, entry in _entries(stream, slots):
                key, is_created = _key(entry)
                if is_created:
                    code = slot * 2 + number
                    self._created[key], self._hashes[code] = code, key
                    new.append(key)
                else:
                    lane.keys[slot] = key
        wanted = np.array(new, np.int64)
        for lane, slots in zip(self._lanes, fresh, strict=True):
            asked = distinct(np.concatenate([slots, np.flatnonzero(is_among(lane.keys, wanted))]))
            keys = lane.keys[asked].tolist()
            lane.sources[asked] = [self._created.get(key, -1) + 1 if key else 0 for key in keys]


def _entries(stream: Stream, slots: Slots) -> Iterator[tuple[int, bytes]]:
    """Slots that are live, each once, with their entries."""
    live = stream.table.live()
    slots = distinct(slots)
    slots = slots[live[slots]]
    for start in range(0, len(slots), _SLICE):
        some = slots[start : start + _SLICE]
        yield from zip(some.tolist(), stream.table.entries(some), strict=True)


def _key(entry: bytes) -> tuple[int, bool]:
    """What a counted series and its `_created` have in common, as a hash; 0: not counted. And which it is."""
    if entry[0] not in _COUNTED:
        return 0, False
    texts = entry[1:].split(b"\xff")
    parts, is_created = [entry[:1]], False
    for place in range(0, len(texts) - 1, 2):
        name, value = texts[place], texts[place + 1]
        if name == b"__name__":
            is_created = value.endswith(CREATED)
            suffix = CREATED if is_created else next((one for one in _SUFFIXES if value.endswith(one)), b"")
            parts.append(value[: len(value) - len(suffix)])
        elif name not in (b"le", b"quantile"):
            parts += (name, value)
    return hash(b"\xff".join(parts)) or 1, is_created
