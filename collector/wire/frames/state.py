"""What both ends know of one stream: its dictionary, which slots are live, and the bases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from collector.wire.distinct import distinct
from collector.wire.frames.dictionary import Dictionary, Digests, Total
from collector.wire.frames.model import CELL, Bools, Integers
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
        freed, born = patch.freed, patch.born
        if len(born):
            self.grow(int(born[-1]) + 1)
        self.dictionary.apply(born, added, total)
        self.live[freed] = False
        self.live[born] = True
        self.set_bases(born, patch.classes, patch.coded)
        self._touch(freed)

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

    def _touch(self, slots: npt.NDArray[Any]) -> None:
        for cell in distinct(slots // CELL).tolist():
            self._orders.pop(cell, None)
