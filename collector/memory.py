"""How the process asks for memory, and gives it back. Without effect where the C library is not glibc."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

from kernel.clock import Clock

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's mallopt(3)
_OWN_MAPPING_BYTES = 1 << 20
GIVE_BACK_SECONDS = 10.0  # 1 to 2 ms each time


def keep_one_heap() -> None:
    """One heap for all threads, and nothing large in it. Call it before threads are started.

    Else each thread of the pool has a heap, and keeps what its largest scrape took; and a page or a column that is
    freed raises glibc's threshold, so that the next ones stand in the heap and leave holes of their size there.
    """
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)


async def give_back(clock: Clock) -> None:
    """Again and again, until cancelled: what is free in the middle of the heap goes back to the system."""
    trim = _of_libc("malloc_trim")
    while True:
        if trim is not None:
            await asyncio.to_thread(trim, 0)
        await clock.sleep(GIVE_BACK_SECONDS)


def _of_libc(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return found
