"""What costs most for each sample, compiled: `turn`, `delta_packed` and `delta_aligned`, or None.

It is built with the package wherever a C compiler and Python's headers are (`hatch_build.py`); without it numpy and
pyarrow do the same, to the byte (`test_native`). All of them run without the interpreter's lock.
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
try:
    from metering.lake.native._kernel import (  # type: ignore[import-not-found, no-redef, unused-ignore]
        delta_aligned,
        delta_packed,
        turn,
    )
except ImportError:
    turn = delta_packed = delta_aligned = None

__all__ = ["delta_aligned", "delta_packed", "turn"]
