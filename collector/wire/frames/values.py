"""Values against bases: integers and decimals by their difference, everything else by its bits.

A base is a class and an integer. Class e in 0..9: the value times 10^e is the integer. Class 255: the integer is
the value's bits. A value is coded by the class of its slot's base; one that the class can't hold exactly travels as
an exception, as bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.wire.frames.layout import Cursor, planes, slot_list, unzigzag_array, zigzag_array
from collector.wire.frames.model import Bools, Floats, Integers

Classes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.intp]

BITS = 255
POWERS: Floats = np.array([10.0**exponent for exponent in range(10)])  # all exact
_LIMIT = 1 << 53  # integers below this are exact as float64


@dataclass(slots=True)
class Bases:
    """Bases by slot."""

    classes: Classes
    coded: Integers

    @classmethod
    def zeros(cls, capacity: int) -> Bases:
        return cls(np.zeros(capacity, np.uint8), np.zeros(capacity, np.int64))

    def grow(self, capacity: int) -> None:
        """Room for slots below `capacity`."""
        self.classes = grown(self.classes, capacity)
        self.coded = grown(self.coded, capacity)


def grown(array: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    """The array with zeros appended, when it is shorter than `capacity`; at least half as long again."""
    if len(array) >= capacity:
        return array
    longer = np.zeros((max(capacity, len(array) * 3 // 2), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


@dataclass(frozen=True)
class Order:
    """Slots in the order in which their values are coded: integers, decimals, bits, by slot within each."""

    slots: Indices
    integers: int  # the first so many are integers
    decimals: int  # up to here decimals
    coded: Integers  # bases, in this order
    scale: Floats  # powers of ten of the decimals

    def __len__(self) -> int:
        return len(self.slots)

    @cached_property
    def narrow(self) -> Floats | None:
        """The bases as doubles if all are integers that stay exact when 32 bits are added, else None."""
        if self.integers < len(self.slots):
            return None
        bases = self.coded.astype(np.float64)
        return bases if np.abs(bases).max(initial=0) < _LIMIT // 2 else None


def arrange(slots: npt.NDArray[Any], classes: Classes, coded: Integers) -> Order:
    """The order of `slots`, whose bases are `classes` and `coded` (as long as `slots`)."""
    slots = slots.astype(np.intp, copy=False)
    if not classes.any():
        return Order(slots, len(slots), len(slots), coded, POWERS[:0])
    is_bits = classes == BITS
    is_decimal = (classes > 0) & ~is_bits
    decimals = np.flatnonzero(is_decimal)
    index = np.concatenate([np.flatnonzero(classes == 0), decimals, np.flatnonzero(is_bits)])
    bits = int(is_bits.sum())
    first = len(slots) - bits - len(decimals)
    return Order(slots[index], first, len(slots) - bits, coded[index], POWERS[classes[decimals]])


def arrange_live(live: Bools, start: int, stop: int, bases: Bases) -> Order:
    """The order of the live slots in `[start, stop)`."""
    slots = np.flatnonzero(live[start:stop]) + start
    return arrange(slots, bases.classes[slots], bases.coded[slots])


def _scaled(values: Floats, integers: int, scale: Floats | np.float64) -> tuple[Integers, Bools]:
    """Values as integers by their classes, and which of them that doesn't hold."""
    with np.errstate(invalid="ignore", over="ignore"):
        if integers == len(values):
            scaled = values.astype(np.int64)
            back = scaled.astype(np.float64)
        else:
            wide = values.copy()
            wide[integers:] *= scale
            np.rint(wide[integers:], out=wide[integers:])
            scaled = wide.astype(np.int64)
            back = scaled.astype(np.float64)
            back[integers:] /= scale
    wrong = back.view(np.int64) != values.view(np.int64)
    wrong |= (scaled + _LIMIT).view(np.uint64) >= 2 * _LIMIT
    return scaled, wrong


def code_values(order: Order, values: Floats) -> tuple[bytes, Indices]:
    """The coded values, given in the order of `order`, 0 for exceptions, and the places in it of those."""
    split = order.decimals
    scaled, wrong = _scaled(values[:split], order.integers, order.scale)
    scaled -= order.coded[:split]
    exceptions = np.flatnonzero(wrong)
    scaled[exceptions] = 0
    deltas = zigzag_array(scaled)
    bits = values[split:].view(np.uint64) ^ order.coded[split:].view(np.uint64)
    groups = (deltas[: order.integers], deltas[order.integers :], bits)
    return b"".join([planes(group) for group in groups if len(group)]), exceptions


def encode_values(order: Order, values: Floats) -> bytes:
    """The coded values, given in the order of `order`, with their exceptions."""
    coded, exceptions = code_values(order, values)
    return b"".join([coded, slot_list(exceptions), values[exceptions].astype("<f8").tobytes()])


def decode_integers(cursor: Cursor, order: Order) -> Integers:
    """What `code_values` coded, as integers in the order of `order`, without the exceptions. Raises WireError."""
    sizes = (order.integers, order.decimals - order.integers, len(order) - order.decimals)
    groups = [cursor.planes(size) for size in sizes if size]
    coded = groups[0] if len(groups) == 1 else np.concatenate(groups) if groups else np.empty(0, np.uint64)
    split = order.decimals
    integers = np.empty(len(order), np.int64)
    integers[:split] = unzigzag_array(coded[:split])
    integers[:split] += order.coded[:split]
    integers[split:] = coded[split:].view(np.int64) ^ order.coded[split:]
    return integers


def decode_values(cursor: Cursor, order: Order) -> Floats:
    """The inverse of `encode_values`: values in the order of `order`. Raises WireError."""
    bases = order.narrow
    steps = cursor.narrow_planes(len(order)) if len(order) and bases is not None else None
    if steps is None or bases is None:
        values = to_values(order, decode_integers(cursor, order))
    else:  # by far the most frequent: every value is an integer near its base
        values = steps + bases
    exceptions = cursor.slot_list(len(order), len(order))
    if len(exceptions):
        values[exceptions] = np.frombuffer(cursor.take(8 * len(exceptions)), "<f8")
    return values


def to_values(order: Order, integers: Integers) -> Floats:
    """Values from integers by their classes."""
    values = integers.astype(np.float64)
    if order.decimals > order.integers:
        values[order.integers : order.decimals] /= order.scale
    values[order.decimals :] = integers[order.decimals :].view(np.float64)
    return values


def classify(values: Floats, least: Classes) -> tuple[Classes, Integers]:
    """Bases for values: the first class from `least` on that holds each exactly."""
    classes = np.full(len(values), BITS, np.uint8)
    coded = values.view(np.int64).copy()
    waiting = np.arange(len(values))
    for exponent, power in enumerate(POWERS):
        if not len(waiting):
            break
        tried = waiting[least[waiting] <= exponent]
        scaled, wrong = _scaled(values[tried], 0 if exponent else len(tried), power)
        held = tried[~wrong]
        classes[held] = exponent
        coded[held] = scaled[~wrong]
        waiting = waiting[classes[waiting] == BITS]
    return classes, coded


def encode_bases(classes: Classes, coded: Integers) -> bytes:
    """Bases as they stand, given by slot: the class of each, then the integers in coding order against zero."""
    order = arrange(np.arange(len(classes)), classes, coded)
    split = order.decimals
    deltas = zigzag_array(order.coded[:split])
    groups = (deltas[: order.integers], deltas[order.integers :], order.coded[split:].view(np.uint64))
    return classes.tobytes() + b"".join([planes(group) for group in groups if len(group)])


def decode_bases(cursor: Cursor, count: int) -> tuple[Classes, Integers]:
    """The inverse of `encode_bases`: the classes and integers of `count` slots, by slot. Raises WireError."""
    classes = np.frombuffer(cursor.take(count), np.uint8)
    if ((classes >= len(POWERS)) & (classes != BITS)).any():
        raise cursor.wrong("an unknown class", f"0 to {len(POWERS) - 1}, or {BITS}")
    if count and not classes.any():  # integers all, which is as they stand
        return classes, unzigzag_array(cursor.planes(count))
    coded = np.zeros(count, np.int64)
    order = arrange(np.arange(count), classes, coded)
    coded[order.slots] = decode_integers(cursor, order)
    return classes, coded
