"""Where in a body each sample stands: made when one is read, good for every body that differs in numbers alone."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from metering.gateway.foreign.pushed import Pushed
from metering.record import STALE_NAN_BITS

_NANOS_PER_MS = 1_000_000
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


class Kind(IntEnum):
    """What the eight bytes of a sample are."""

    DOUBLE = 0
    SIGNED = 1
    UNSIGNED = 2
    ONE = 3  # none: the value is 1
    STALE = 4  # none: a stale marker
    CUMULATIVE = 5  # the place is an index of the buckets: their sum, from the first of its histogram on


@dataclass(slots=True)
class Plan:
    """Samples in the order of the body. A place of -1 stands for a field that was left out: it is zero."""

    numbers: array[int] = field(default_factory=lambda: array("i"))
    kinds: array[int] = field(default_factory=lambda: array("b"))
    places: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    buckets: array[int] = field(default_factory=lambda: array("q"))
    first_buckets: array[int] = field(default_factory=lambda: array("q"))  # of the histogram of each bucket
    unread: array[int] = field(default_factory=lambda: array("q"))  # numbers that nobody needs, and that change
    newest: list[tuple[int, int]] = field(default_factory=list)  # rows at the newest time of those from another on
    is_fixed: bool = True  # nothing in the body but what stands here depends on its numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, number: int, kind: Kind, place: int, time: int, start: int) -> None:
        """A sample."""
        self.numbers.append(number)
        self.kinds.append(kind)
        self.places.append(place)
        self.times.append(time)
        self.starts.append(start)

    def read(self, body: bytes) -> Pushed:
        """The samples of a body."""
        words = np.ndarray(max(0, len(body) - 7), "<u8", body, strides=(1,))
        kinds, places = np.frombuffer(self.kinds, np.int8), np.frombuffer(self.places, np.int64)
        times, starts = _millis(words, self.times), _millis(words, self.starts)
        for row, first in self.newest:
            times[row] = times[first:row].max()
        return Pushed(
            np.frombuffer(self.numbers, np.int32),
            times,
            self._values(words, kinds, places),
            starts if len(starts) and int(starts.max()) > 0 else None,
        )

    def _values(self, words: Words, kinds: npt.NDArray[np.int8], places: Places) -> npt.NDArray[np.float64]:
        read = _at(words, np.where(kinds == Kind.CUMULATIVE, -1, places))
        values = read.view(np.float64).copy()
        values[kinds == Kind.SIGNED] = read[kinds == Kind.SIGNED].view(np.int64)
        values[kinds == Kind.UNSIGNED] = read[kinds == Kind.UNSIGNED]
        values[kinds == Kind.ONE] = 1.0
        values.view(np.uint64)[kinds == Kind.STALE] = STALE_NAN_BITS
        if len(self.buckets):
            sums = _at(words, np.frombuffer(self.buckets, np.int64)).cumsum(dtype=np.uint64)
            firsts = np.frombuffer(self.first_buckets, np.int64)
            before = np.where(firsts > 0, sums[firsts - 1], np.uint64(0))
            cumulative = kinds == Kind.CUMULATIVE
            values[cumulative] = (sums - before)[places[cumulative]]
        return values

    def changing(self) -> Places:
        """Where the eight bytes stand that differ between bodies of this plan."""
        kinds, places = np.frombuffer(self.kinds, np.int8), np.frombuffer(self.places, np.int64)
        columns = [places[kinds < Kind.ONE], self.times, self.starts, self.buckets, self.unread]
        every = np.concatenate([np.asarray(column, np.int64) for column in columns])
        return every[every >= 0]


def _at(words: Words, places: Places) -> Words:
    if not len(words):
        return np.zeros(len(places), np.uint64)
    return np.where(places < 0, np.uint64(0), words[np.maximum(places, 0)])


def _millis(words: Words, places: array[int]) -> Places:
    return (_at(words, np.frombuffer(places, np.int64)) // np.uint64(_NANOS_PER_MS)).astype(np.int64)


class Template:
    """A body that was read, and its plan."""

    def __init__(self, body: bytes, plan: Plan) -> None:
        self.plan = plan
        padded = np.full(len(body) + 8, 0xFF, np.uint8)
        np.ndarray(len(body) + 1, "<u8", padded.data, strides=(1,))[plan.changing()] = 0
        self._mask = padded[: len(body)]
        self._content = np.frombuffer(body, np.uint8) & self._mask

    @property
    def size_bytes(self) -> int:
        return 2 * len(self._content) + 40 * len(self.plan)

    def is_like(self, body: bytes) -> bool:
        """Whether a body differs in its numbers alone."""
        if len(body) != len(self._content):
            return False
        return bool(((np.frombuffer(body, np.uint8) & self._mask) == self._content).all())
