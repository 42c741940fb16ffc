"""How the process asks for memory."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # glibc's mallopt(3)


def keep_one_heap() -> None:
    """Else each thread of the pool has a heap of its own, and keeps what its largest scrape took.

    Call it before threads are started. Without effect where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, 1)
