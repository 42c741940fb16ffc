"""What both ends know of one stream: its dictionary, which slots are live, and the bases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from collector.wire.distinct import distinct
from collector.wire.frames.dictionary import Dictionary, Digests, Total
from collector.wire.frames.model import CELL, Bools, Integers
from collector.wire.frames.rearrange import Change, rearranged
from collector.wire.frames.sections import Patch
from collector.wire.frames.values import Bases, Classes, Indices, Order, arrange, grown


class StreamState:
    """Changed by patches and keyframes alone. `live` may be longer than the slots in use."""

    def __init__(self) -> None:
        self.dictionary = Dictionary()
        self.live: Bools = np.zeros(0, np.bool_)
        self.bases = Bases.zeros(0)
        self._orders: dict[int, Order] = {}

    @property
    def series(self) -> int:
        """Live series."""
        return self.dictionary.total.count

    def apply(self, patch: Patch, added: Digests, total: Total) -> None:
        """Take in a checked patch: `added` are the digests of its entries, `total` is what it leads to."""
        self.dictionary.apply(patch.born, added, total)
        self.take_in(patch)

    def take_in(self, patch: Patch) -> None:
        """The slots and bases of a checked patch, whose entries are taken in apart."""
        freed, born = patch.freed, patch.born
        if len(born):
            self.grow(int(born[-1]) + 1)
        self._rearrange(patch)
        self.live[freed] = False
        self.live[born] = True
        self.bases.classes[born] = patch.classes
        self.bases.coded[born] = patch.coded

    def grow(self, capacity: int) -> None:
        """Room for slots below `capacity`."""
        self.live = grown(self.live, capacity)
        self.bases.grow(len(self.live))

    def set_bases(self, slots: npt.NDArray[Any], classes: Classes, coded: Integers) -> None:
        """New bases for some slots."""
        self.bases.classes[slots] = classes
        self.bases.coded[slots] = coded
        self._touch(slots)

    def order(self, cell: int) -> Order:
        """The live slots of a cell in coding order; the same object until something changes in the cell."""
        order = self._orders.get(cell)
        if order is None:
            order = self._orders[cell] = self.order_of(self.slots(cell))
        return order

    def slots(self, cell: int) -> Indices:
        """The live slots of a cell, ascending."""
        start = cell * CELL
        return np.flatnonzero(self.live[start : start + CELL]) + start

    def order_of(self, slots: npt.NDArray[Any]) -> Order:
        """Some slots, ascending, in coding order."""
        return arrange(slots, self.bases.classes[slots], self.bases.coded[slots])

    def _rearrange(self, patch: Patch) -> None:
        """The orders of the cells that a patch changes follow it; called before it is taken in."""
        for cell in distinct(np.concatenate([patch.freed, patch.born]) // CELL).tolist():
            order = self._orders.get(cell)
            if order is None:
                continue
            bounds = [cell * CELL, (cell + 1) * CELL]
            freed = slice(*np.searchsorted(patch.freed, bounds).tolist())
            born = slice(*np.searchsorted(patch.born, bounds).tolist())
            gone, come = patch.freed[freed], patch.born[born]
            if len(gone) + len(come) > len(order) // 4:
                del self._orders[cell]  # it is made anew when it is asked for
                continue
            change = Change(gone, self.bases.classes[gone], come, patch.classes[born], patch.coded[born])
            self._orders[cell] = rearranged(order, change)

    def _touch(self, slots: npt.NDArray[Any]) -> None:
        if not len(slots):
            return
        first, last = int(slots.min()) // CELL, int(slots.max()) // CELL
        for cell in [first] if first == last else distinct(slots // CELL).tolist():
            self._orders.pop(cell, None)
