"""Which reader a process uses: the compiled kernel where it was built, else pyarrow's columns."""

from __future__ import annotations

from enum import StrEnum

from collector.exposition.reading import Reader
from collector.native import LaneRows
from collector.wire.frames.cells import CellCoder
from kernel.errors import InvalidInput


class ReaderChoice(StrEnum):
    """How pages are read."""

    AUTO = "auto"
    NATIVE = "native"
    PURE = "pure"


class _Chosen:
    choice = ReaderChoice.AUTO


def choose_reader(choice: ReaderChoice) -> None:
    """For every target from now on. Raises InvalidInput: there is no kernel in this installation."""
    from collector.native import KeyTable

    if choice is ReaderChoice.NATIVE and KeyTable is None:
        raise InvalidInput.single(
            "collector", "reader", "native, and there is no compiled kernel in this installation",
            "auto or pure; or install byoc where a C compiler and Python's headers are",
        )  # fmt: skip
    _Chosen.choice = choice


def cell_coder() -> CellCoder | None:
    """What codes values for frames; None: numpy does."""
    from collector.native import encode_cell

    return None if _Chosen.choice is ReaderChoice.PURE else encode_cell


def lane_rows() -> LaneRows | None:
    """What finds the rows of a lane; None: numpy does."""
    from collector import native

    return None if _Chosen.choice is ReaderChoice.PURE else native.lane_rows


def new_reader() -> Reader:
    """For one target."""
    from collector.native import KeyTable

    if KeyTable is not None and _Chosen.choice is not ReaderChoice.PURE:
        from collector.exposition.native import NativeReader

        return NativeReader(KeyTable)
    from collector.exposition.columnar import ColumnReader  # it loads pyarrow: 30 MB

    return ColumnReader()
