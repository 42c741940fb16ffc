"""Memory between commits: kept, instead of given back to the kernel and asked for again, page by page."""

from __future__ import annotations

import ctypes

# glibc's mallopt(3): from which size on a block is mapped by itself, and from how much free memory at the end of
# the heap on it is given back. A commit's columns are of 8 to 100 MB; taking each anew costs more than encoding it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Keep up to 1 GB of freed memory in this process. Without effect where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_ARENA_MAX, 1)  # else each thread has a heap of its own, of 64 MB at most, and maps what is larger
