"""Compiled parts, used where there are any, else None: `KeyTable`, a reader of pages, and `encode_cell`, a coder.

They are built with the package wherever a C compiler and Python's headers are (`hatch_build.py`); without it
`collector.exposition` reads by pyarrow and `collector.wire.frames` codes by numpy, and both say the same
(`test_native`, `test_cells`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from collector.wire.frames.cells import CellCoder


class Table(Protocol):
    """The keys of the last body that was kept, by number, and one body that is pending: read, not kept yet.

    Of a kept key there is a mark of 128 bits, keyed by the secret, and not its bytes. Arrays are bytes of native
    int32 or float64. Each method raises RuntimeError while another thread scans, MemoryError when there is none.
    """

    def begin(self, is_openmetrics: bool, renewed: tuple[bytes, ...] = (), /) -> None:
        """A body, of which nothing has come; what was pending is forgotten. Keys of these names get other numbers
        than they had, as if they were new (b"": all that are spelled in quotes).
        """

    def feed(self, piece: bytes | bytearray | memoryview, /) -> bool:
        """The next bytes of it. False: the strict parser has to look at all of it, and nothing is pending.

        Without the interpreter's lock when they are many. The piece is not used after.
        """

    def scanned(self) -> tuple[bytes, list[tuple[bytes, int]], bytes | None] | None:
        """The body is whole. None: as False of `feed`. Once.

        Values of the plain rows, which are exactly `key number`; the odd lines (text, rows before it); the comment
        lines, None where they are those that were kept. Some new keys are `unchecked`.
        """

    def has_met(self, names: tuple[bytes, ...], /) -> bool:
        """Whether a key with one of these names (as of `begin`) is in this body and was in the kept one."""

    def add(self, key: bytes, /) -> None:
        """The next odd row's key."""

    def unchecked(self, first: int, last: int, /) -> list[bytes]:
        """Of the new keys of plain rows that are not spelled simply, so that the strict parser has to see them, in
        their order, those from `first` to before `last`.
        """

    def rows(self, odd_are_same: bool, /) -> tuple[bytes, bytes, bytes, bytes, int] | None:
        """The number of each row, plain ones first; the rows whose keys are new; the numbers born and gone, and
        what all numbers are below. None: all rows are those that were kept, one by one.
        """

    def keep(self) -> None:
        """What is pending is what the next body is compared with; numbers that are gone may be used again."""

    def forget(self) -> None:
        """What is pending never was."""

    def key(self, number: int, /) -> bytes:
        """The bytes of a key that is new in the pending body, by its number. Raises KeyError."""

    def release(self, number: int, /) -> None:
        """The bytes of this new key, and of those met before it, are not asked for again: their memory goes back to
        the system before the body is kept. Raises KeyError as `key`.
        """


class NewTable(Protocol):
    """What makes a table."""

    def __call__(self, secret: bytes, /) -> Table:
        """With 16 secret bytes, so that no target can choose keys that collide."""


class LaneRows(Protocol):
    """What finds the rows of a lane, and their slots."""

    def __call__(
        self, codes: npt.NDArray[np.int32], numbers: npt.NDArray[np.int32], lane: int, count: int, /
    ) -> tuple[bytes | None, bytes]:
        """Rows, as int64, whose code (by the row's number) is a slot times two plus this lane, None where all are;
        and the slots, as int32. Raises ValueError when there are not `count` of them.
        """


KeyTable: NewTable | None
encode_cell: CellCoder | None
lane_rows: LaneRows | None
try:
    from collector.native._kernel import (  # type: ignore[import-not-found, no-redef, unused-ignore]
        KeyTable,
        encode_cell,
        lane_rows,
    )
except ImportError:
    KeyTable = encode_cell = lane_rows = None

__all__ = ["KeyTable", "LaneRows", "Table", "encode_cell", "lane_rows"]
