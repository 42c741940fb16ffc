"""When the counters behind slots began: a further part of the extras, sent when it changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from collector.wire.frames.layout import Cursor, planes, slot_list, unzigzag_array, varint, zigzag_array
from collector.wire.frames.model import Integers, Starts
from collector.wire.frames.values import grown

START_SLOTS = 65_536  # in one block
_KIND = 1  # among the further parts
_MOST_BYTES = 8 * 1024 * 1024


def render_starts(starts: Starts, at_ms: int) -> bytes:
    """The part with its kind and length."""
    part = slot_list(starts.slots.astype(np.int64)) + planes(zigzag_array(at_ms - starts.starts_ms))
    return varint(_KIND) + varint(len(part)) + part


def parse_further(cursor: Cursor, at_ms: int, capacity: int) -> Starts | None:
    """What follows the exemplars; a part of a kind that we do not know is passed over. Raises WireError."""
    starts = None
    while cursor.position < cursor.end:
        kind = cursor.varint()
        part = Cursor(cursor.take(cursor.varint(_MOST_BYTES)), f"{cursor.where}, part {kind}")
        if kind != _KIND:
            continue
        if starts is not None:
            raise part.wrong("starts again", "once")
        slots = part.slot_list(capacity, capacity)
        if not len(slots):
            raise part.wrong("no slot", "one or more")
        starts = Starts(slots.astype(np.int32), at_ms - unzigzag_array(part.planes(len(slots))))
        part.finish()
    return starts


class StartsSent:
    """What the receiver of one stream knows of starts."""

    def __init__(self) -> None:
        self._known: Integers = np.zeros(0, np.int64)  # by slot; 0: none

    def forget(self, slots: Integers) -> None:
        """These slots have other series now."""
        if len(self._known):
            self._known[slots[slots < len(self._known)]] = 0

    def changed(self, starts: Starts | None) -> Iterator[Starts]:
        """Those that the receiver does not know, in portions for one block each; from now on it knows them."""
        if starts is None or not len(starts.slots):
            return
        self._known = grown(self._known, int(starts.slots[-1]) + 1)
        rows = np.flatnonzero(self._known[starts.slots] != starts.starts_ms)
        slots, starts_ms = starts.slots[rows], starts.starts_ms[rows]
        self._known[slots] = starts_ms
        for at in range(0, len(rows), START_SLOTS):
            yield Starts(slots[at : at + START_SLOTS], starts_ms[at : at + START_SLOTS])
