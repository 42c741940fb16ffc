"""What a block holds beside a patch and columns: stale markers, dated rows, histograms, exemplars, and further."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from collector.wire.frames.body import Head
from collector.wire.frames.dictionary import check_entries
from collector.wire.frames.further import Told, parse_further
from collector.wire.frames.layout import (
    Cursor,
    planes,
    slot_list,
    unzigzag,
    unzigzag_array,
    varint,
    zigzag,
    zigzag_array,
)
from collector.wire.frames.metadata import render_metadata
from collector.wire.frames.model import (
    Dated,
    ExemplarRow,
    FamilyMetadata,
    FrameLimits,
    HistogramRow,
    Integers,
    Starts,
    Tick,
)
from collector.wire.frames.starts import render_starts
from collector.wire.frames.values import Bases, arrange, decode_values, encode_values

DATED_ROWS = 16_384  # in one block
NO_SLOTS: Integers = np.empty(0, np.int64)
_PORTION_BYTES = 500_000  # of histograms and exemplars in one block, before compression


@dataclass(frozen=True, slots=True)
class Extras:
    """What a block holds beside a patch and columns; `stale` is of the mapping before the block's patch."""

    stale: Integers = field(default_factory=lambda: NO_SLOTS)
    dated: Dated | None = None
    histograms: Sequence[HistogramRow] = ()
    exemplars: Sequence[ExemplarRow] = ()
    starts: Starts | None = None
    metadata: Sequence[FamilyMetadata] = ()

    @classmethod
    def joined(cls, parts: Sequence[Extras]) -> Extras:
        """One of parts that hold different things."""
        return cls(
            next((part.stale for part in parts if len(part.stale)), NO_SLOTS),
            next((part.dated for part in parts if part.dated is not None), None),
            [row for part in parts for row in part.histograms],
            [row for part in parts for row in part.exemplars],
            next((part.starts for part in parts if part.starts is not None), None),
            [told for part in parts for told in part.metadata],
        )

    def __bool__(self) -> bool:
        is_dated, is_told = self.dated is not None, self.starts is not None or self.metadata
        return bool(len(self.stale) or is_dated or self.histograms or self.exemplars or is_told)

    @property
    def samples(self) -> int:
        dated = 0 if self.dated is None else len(self.dated.slots)
        return len(self.stale) + dated + len(self.histograms)


def render_extras(extras: Extras, bases: Bases, at_ms: int) -> bytes:
    """The raw section of extras."""
    parts = [slot_list(extras.stale), _render_dated(extras.dated, bases, at_ms), varint(len(extras.histograms))]
    for histogram in extras.histograms:
        parts += [varint(histogram.slot), varint(len(histogram.message)), histogram.message]
    parts.append(varint(len(extras.exemplars)))
    for exemplar in extras.exemplars:
        time = varint(zigzag(exemplar.timestamp_ms - at_ms))
        parts += [varint(exemplar.slot), struct.pack("<d", exemplar.value), time]
        parts += [varint(len(exemplar.labels)), exemplar.labels]
    if extras.starts is not None:
        parts.append(render_starts(extras.starts, at_ms))
    if extras.metadata:
        parts.append(render_metadata(extras.metadata))
    return b"".join(parts)


def _render_dated(dated: Dated | None, bases: Bases, at_ms: int) -> bytes:
    if dated is None or not len(dated.slots):
        return b"\0"
    slots = dated.slots.astype(np.int64)
    rows = np.arange(len(slots))
    order = arrange(rows, bases.classes[slots], bases.coded[slots])
    values = encode_values(order, dated.values[order.slots])
    times = planes(zigzag_array(dated.timestamps_ms - at_ms))
    return varint(len(slots)) + planes(zigzag_array(np.diff(slots, prepend=0))) + times + values


@dataclass(slots=True)
class Bounds:
    """What the extras of a block may hold: slots below `capacity`; `told` is what the body's may, all together."""

    capacity: int
    limits: FrameLimits
    told: Told


def parse_extras(cursor: Cursor, bases: Bases, head: Head, bounds: Bounds) -> Extras:
    """The inverse of `render_extras`; whether slots are live is not checked. Raises WireError, BodyTooLarge."""
    stale = cursor.slot_list(head.samples, bounds.capacity)
    dated = _parse_dated(cursor, bases, head.at_ms, len(bases.coded))
    rest = parse_rest(cursor, head, bounds)
    return Extras(stale, dated, rest.histograms, rest.exemplars, rest.starts, rest.metadata)


def parse_rest(cursor: Cursor, head: Head, bounds: Bounds) -> Extras:
    """What stands behind the dated rows, up to the end. Raises WireError, BodyTooLarge."""
    at_ms, capacity, limits = head.at_ms, bounds.capacity, bounds.limits
    histograms = [
        HistogramRow(cursor.varint(capacity - 1), cursor.take(cursor.varint(limits.max_histogram_bytes)))
        for _ in range(cursor.varint(head.samples))
    ]
    exemplars = []
    count = cursor.varint(limits.max_exemplars)
    bounds.told.take(rows=count)
    for _ in range(count):
        slot = cursor.varint(capacity - 1)
        [value] = struct.unpack("<d", cursor.take(8))
        time = at_ms + unzigzag(cursor.varint(1 << 62))
        labels = cursor.take(cursor.varint(limits.max_entry_bytes))
        if labels:
            check_entries([b"\0" + labels], limits)
        exemplars.append(ExemplarRow(slot, value, time, labels))
    further = parse_further(cursor, at_ms, capacity, limits, bounds.told)
    return Extras(histograms=histograms, exemplars=exemplars, starts=further.starts, metadata=further.metadata)


def _parse_dated(cursor: Cursor, bases: Bases, at_ms: int, capacity: int) -> Dated | None:
    count = cursor.varint(DATED_ROWS)
    if not count:
        return None
    slots = np.cumsum(unzigzag_array(cursor.planes(count)))
    if (slots.view(np.uint64) >= capacity).any():
        raise cursor.wrong("a slot out of range", f"below {capacity}")
    times = unzigzag_array(cursor.planes(count)) + at_ms
    order = arrange(np.arange(count), bases.classes[slots], bases.coded[slots])
    values = np.empty(count, np.float64)
    values[order.slots] = decode_values(cursor, order)
    return Dated(slots.astype(np.int32), times, values)


def portions(tick: Tick) -> Iterator[Extras]:
    """The dated rows, histograms and exemplars of a tick, in portions for one block each."""
    dated = tick.dated if tick.dated is not None and len(tick.dated.slots) else None
    parts: list[Extras] = []
    for start in range(0, len(dated.slots) if dated is not None else 0, DATED_ROWS):
        rows = slice(start, start + DATED_ROWS)
        if dated is not None:
            parts.append(Extras(dated=Dated(dated.slots[rows], dated.timestamps_ms[rows], dated.values[rows])))
    histograms: list[HistogramRow] = []
    exemplars: list[ExemplarRow] = []
    size = 0
    rows_left: list[HistogramRow | ExemplarRow] = [*tick.histograms, *tick.exemplars]
    for row in rows_left:
        wanted = 30 + len(row.message if isinstance(row, HistogramRow) else row.labels)
        if size + wanted > _PORTION_BYTES:
            parts.append(Extras(histograms=histograms, exemplars=exemplars))
            histograms, exemplars, size = [], [], 0
        size += wanted
        if isinstance(row, HistogramRow):
            histograms.append(row)
        else:
            exemplars.append(row)
    if len(parts) == 1 and not parts[0].histograms and not parts[0].exemplars:
        yield Extras(dated=parts[0].dated, histograms=histograms, exemplars=exemplars)
        return
    yield from parts
    if histograms or exemplars:
        yield Extras(histograms=histograms, exemplars=exemplars)
