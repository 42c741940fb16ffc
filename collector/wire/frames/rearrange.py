"""The coding order of a cell after some of its slots changed, without a look at the classes of those that stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.wire.frames.model import Integers
from collector.wire.frames.values import BITS, POWERS, Classes, Indices, Order

_KINDS = 3  # 0: integers, 1: decimals, 2: bits; an order has them one behind the other


@dataclass(frozen=True, slots=True)
class Change:
    """Slots of one cell that left an order, with the classes they had; and those that came, with their bases.

    Each ascending; a slot may be in both.
    """

    gone: npt.NDArray[Any]
    had: Classes
    come: npt.NDArray[Any]
    classes: Classes
    coded: Integers


def rearranged(order: Order, change: Change) -> Order:
    """The order after a change, as `arrange` makes it. Whoever has the old one may go on using it.

    A slot that goes and comes in the same kind keeps its place.
    """
    had, kinds = _kinds(change.had), _kinds(change.classes)
    again, at_gone, at_come = np.intersect1d(change.gone, change.come, assume_unique=True, return_indices=True)
    is_same = had[at_gone] == kinds[at_come]
    places, same = _places(order, again[is_same], kinds[at_come[is_same]]), at_come[is_same]
    coded, scale = order.coded.copy(), order.scale
    coded[places] = change.coded[same]
    decimals = np.flatnonzero(kinds[same] == 1)
    if len(decimals):
        scale = scale.copy()
        scale[places[decimals] - order.integers] = POWERS[change.classes[same[decimals]]]
    order = Order(order.slots, order.integers, order.decimals, coded, scale)
    left = np.delete(np.arange(len(change.gone)), at_gone[is_same])
    order = _without(order, change.gone[left], had[left])
    new = np.delete(np.arange(len(change.come)), same)
    return _with(order, change, new, kinds[new]) if len(new) else order


def without(order: Order, slots: npt.NDArray[Any], classes: Classes) -> Order:
    """An order without some of its slots, which have these classes in it."""
    return _without(order, slots, _kinds(classes))


def _without(order: Order, slots: npt.NDArray[Any], kinds: Classes) -> Order:
    if not len(slots):
        return order
    places = np.sort(_places(order, slots, kinds))
    first, last = np.searchsorted(places, (order.integers, order.decimals)).tolist()
    scale = np.delete(order.scale, places[first:last] - order.integers)
    integers, decimals = order.integers - first, order.decimals - last
    return Order(np.delete(order.slots, places), integers, decimals, np.delete(order.coded, places), scale)


def _kinds(classes: Classes) -> Classes:
    kinds: Classes = (classes > 0).view(np.uint8) + (classes == BITS).view(np.uint8)
    return kinds


def _places(order: Order, slots: npt.NDArray[Any], kinds: Classes) -> Indices:
    """Where slots of these kinds stand in an order, or belong."""
    found = np.empty(len(slots), np.intp)
    bounds = (0, order.integers, order.decimals, len(order))
    for kind in range(_KINDS):
        ours = np.flatnonzero(kinds == kind)
        part = order.slots[bounds[kind] : bounds[kind + 1]]
        found[ours] = np.searchsorted(part, slots[ours]) + bounds[kind]
    return found


def _with(order: Order, change: Change, new: Indices, kinds: Classes) -> Order:
    """An order with slots that are not in it: those of the change at the places `new`, of these kinds."""
    by_kind = np.argsort(kinds, kind="stable")
    new, kinds = new[by_kind], kinds[by_kind]
    slots = change.come[new]
    places = _places(order, slots, kinds)
    integers, decimals = (int(np.count_nonzero(kinds == kind)) for kind in (0, 1))
    ours = slice(integers, integers + decimals)
    return Order(
        np.insert(order.slots, places, slots),
        order.integers + integers,
        order.decimals + integers + decimals,
        np.insert(order.coded, places, change.coded[new]),
        np.insert(order.scale, places[ours] - order.integers, POWERS[change.classes[new[ours]]]),
    )
