"""What costs most for each sample, compiled: `turn`, `delta_packed`, `delta_aligned` and `steady`, or None.

It is built with the package wherever a C compiler and Python's headers are (`hatch_build.py`); without it numpy and
pyarrow do the same, to the byte (`test_native`, `test_steady`). All of them run without the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable

from metering.lake.rows import Floats, Integers

# turn(columns, places, table): table[places[i], j] = columns[j][i]. ValueError for columns of another length than
# places and for places beyond the table, before anything is written.
turn: Callable[[tuple[Floats, ...], Integers, Floats], None] | None
# delta_packed(values): DELTA_BINARY_PACKED of 64-bit integers, in blocks of 256 of four parts each.
delta_packed: Callable[[Integers], bytes] | None
# delta_aligned(values): the same in blocks of 128, in whole octets (`delta_pages`).
delta_aligned: Callable[[Integers], bytes] | None
# steady(pages, numbered, rows, start, end, limit, hour): of a row group's pages (`coded_groups`) and of what their
# numbers stand for (which series are wanted, a byte each; references; scales) the stretches of rows whose times are
# in [start, end), as (number of the series, first, last, value, scale); a scale of -1 says that the value is a
# double's bits. And their ranges, as (number, hour, first row, rows): see `steady.SteadyRuns`. All are integers of
# 64 bits. ValueError: coded otherwise, or damaged.
steady: (
    Callable[[tuple[bytes, ...], tuple[bytes, bytes, bytes], int, int, int, int, int], tuple[bytes, bytes]] | None
)
try:
    from metering.lake.native._kernel import (  # type: ignore[import-not-found, no-redef, unused-ignore]
        delta_aligned,
        delta_packed,
        steady,
        turn,
    )
except ImportError:
    turn = delta_packed = delta_aligned = steady = None

__all__ = ["delta_aligned", "delta_packed", "steady", "turn"]
