"""When the counters behind slots began: a further part of the extras, sent when it changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from collector.wire.frames.layout import Cursor, planes, slot_list, unzigzag_array, varint, zigzag_array
from collector.wire.frames.model import Integers, Starts
from collector.wire.frames.values import grown

START_SLOTS = 65_536  # in one block
KIND = 1  # among the further parts


def render_starts(starts: Starts, at_ms: int) -> bytes:
    """The part with its kind and length."""
    part = slot_list(starts.slots.astype(np.int64)) + planes(zigzag_array(at_ms - starts.starts_ms))
    return varint(KIND) + varint(len(part)) + part


def parse_starts(part: Cursor, at_ms: int, capacity: int) -> Starts:
    """The inverse, of what follows kind and length. Raises WireError."""
    slots = part.slot_list(min(capacity, START_SLOTS), capacity)
    if not len(slots):
        raise part.wrong("no slot", "one or more")
    found = Starts(slots.astype(np.int32), at_ms - unzigzag_array(part.planes(len(slots))))
    part.finish()
    return found


class StartsSent:
    """What the receiver of one stream knows of starts."""

    def __init__(self) -> None:
        self._known: Integers = np.zeros(0, np.int64)  # by slot; 0: none
        self._last: Starts | None = None

    def forget(self, slots: Integers) -> None:
        """These slots have other series now."""
        if len(self._known):
            self._known[slots[slots < len(self._known)]] = 0
        self._last = self._last if not len(slots) else None

    def changed(self, starts: Starts | None) -> Iterator[Starts]:
        """Those that the receiver does not know, in portions for one block each; from now on it knows them."""
        if starts is None or starts is self._last or not len(starts.slots):
            return
        self._last = starts
        self._known = grown(self._known, int(starts.slots[-1]) + 1)
        rows = np.flatnonzero(self._known[starts.slots] != starts.starts_ms)
        slots, starts_ms = starts.slots[rows], starts.starts_ms[rows]
        self._known[slots] = starts_ms
        for at in range(0, len(rows), START_SLOTS):
            yield Starts(slots[at : at + START_SLOTS], starts_ms[at : at + START_SLOTS])
