"""The values of one cell against their bases: by numpy, or by what an encoder was given to do it more quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from collector.wire.frames.layout import slot_list
from collector.wire.frames.mirror import Mirror
from collector.wire.frames.model import CELL, Bools, Floats, Integers, Tick
from collector.wire.frames.rearrange import without
from collector.wire.frames.values import Classes, Indices, Order, code_values

Found = tuple[bytes | None, bytes, bytes, bytes, int]


class CellCoder(Protocol):
    """What codes a cell without an order of its slots."""

    def __call__(
        self,
        values: Floats,
        live: Bools,
        present: Bools | None,
        classes: Classes,
        coded: Integers,
        start: int,
        stop: int,
        /,
    ) -> Found:
        """Of the slots in `[start, stop)` that are live and, unless that is None, present; arrays are by slot.

        The bitmap of those present among the live (None: all); the coded values, 0 where one is an exception; the
        places of the exceptions in the coding order, and their slots, as bytes of int64; how many values.
        """


@dataclass(frozen=True, slots=True)
class Column:
    """Values of a cell. `bitmap` None: all live slots have one."""

    bitmap: bytes | None
    values: bytes
    samples: int
    exceptions: Indices  # slots whose values their classes do not hold

    @property
    def is_worth_it(self) -> bool:
        """Whether new bases would not be cheaper."""
        return len(self.exceptions) <= max(8, self.samples // 16)


def column_of(mirror: Mirror, tick: Tick, cell: int, coder: CellCoder | None) -> Column:
    """The values of a tick against the bases of the mirror, by the coder if there is one."""
    if coder is None:
        return _by_order(mirror, tick, cell)
    start, stop = cell * CELL, min((cell + 1) * CELL, len(tick.values), len(mirror.live))
    bases = mirror.bases
    bitmap, coded, places, slots, samples = coder(
        tick.values, mirror.live, tick.present, bases.classes, bases.coded, min(start, stop), stop
    )
    exceptions = np.frombuffer(slots, np.int64)
    parts = [coded, slot_list(np.frombuffer(places, np.int64)), tick.values[exceptions].astype("<f8").tobytes()]
    return Column(bitmap, b"".join(parts), samples, exceptions)


def present_slots(mirror: Mirror, tick: Tick, cell: int) -> tuple[Indices, bytes | None]:
    """The live slots of a cell that have a value, ascending, and their bitmap (None: all have)."""
    slots = mirror.slots(cell)
    if tick.present is None:
        return slots, None
    here = tick.present[slots]
    return (slots, None) if here.all() else (slots[here], _bitmap(here))


def _by_order(mirror: Mirror, tick: Tick, cell: int) -> Column:
    order, bitmap = _order(mirror, tick, cell)
    values = tick.values.take(order.slots)
    coded, places = code_values(order, values)
    parts = [coded, slot_list(places), values[places].astype("<f8").tobytes()]
    return Column(bitmap, b"".join(parts), len(order), order.slots[places])


def _order(mirror: Mirror, tick: Tick, cell: int) -> tuple[Order, bytes | None]:
    order = mirror.order(cell)
    if tick.present is None:
        return order, None
    stop = min((cell + 1) * CELL, len(tick.present), len(mirror.live))
    here, live = tick.present[cell * CELL : stop], mirror.live[cell * CELL : stop]
    absent = np.flatnonzero(live & ~here) + cell * CELL
    if not len(absent):
        return order, None
    return without(order, absent, mirror.bases.classes[absent]), _bitmap(here[live])


def _bitmap(flags: Bools) -> bytes:
    return np.packbits(flags, bitorder="little").tobytes()
