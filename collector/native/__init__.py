"""A compiled reader of pages, used where there is one: `KeyTable`, or None.

It is built with the package wherever a C compiler and Python's headers are (`hatch_build.py`); without it
`collector.exposition` reads by pyarrow, and the two say the same (`test_native`).
"""

from __future__ import annotations

from typing import Protocol


class Table(Protocol):
    """The keys of the last body that was kept, by number, and one body that is pending: scanned, not kept yet.

    Arrays are bytes of native int32 or float64. Each method raises RuntimeError while another thread scans,
    MemoryError when there is none (then nothing is pending).
    """

    def scan(
        self, body: bytes | bytearray | memoryview, size: int, is_openmetrics: bool, /
    ) -> tuple[bytes, list[tuple[int, int, int]], bytes | None] | None:
        """Read body[:size]; runs without the interpreter's lock. None: the strict parser has to look at all of it.

        Values of the plain rows, which are exactly `key number`; of the odd lines (offset, length, rows before it);
        the comment lines, None where they are those that were kept. Some new keys are `unchecked`.
        """

    def begin(self, is_openmetrics: bool, /) -> None:
        """A body without plain rows, whose comments are unknown; what was pending is forgotten."""

    def add(self, key: bytes, /) -> None:
        """The next odd row's key."""

    def unchecked(self, first: int, last: int, /) -> list[bytes]:
        """Of the new keys of plain rows that are not spelled simply, so that the strict parser has to see them, in
        their order, those from `first` to before `last`.
        """

    def renew(self, starts: tuple[bytes, ...], /) -> None:
        """Keys that begin with one of these get another number, as if they were new."""

    def rows(self, odd_are_same: bool, /) -> tuple[bytes, bytes, bytes, bytes, int] | None:
        """By row, plain ones first: its number, and the row that its key had (-1: none); the numbers born and gone,
        and what all numbers are below. None: all rows are those that were kept, one by one.
        """

    def keep(self) -> None:
        """What is pending is what the next body is compared with; numbers that are gone may be used again."""

    def forget(self) -> None:
        """What is pending never was."""

    def key(self, number: int, /) -> bytes:
        """The key of a number. Raises KeyError."""


class NewTable(Protocol):
    """What makes a table."""

    def __call__(self, secret: bytes, /) -> Table:
        """With 16 secret bytes, so that no target can choose keys that collide."""


KeyTable: NewTable | None
try:
    from collector.native._kernel import KeyTable  # type: ignore[import-not-found, no-redef, unused-ignore]
except ImportError:
    KeyTable = None

__all__ = ["KeyTable", "Table"]
