"""Who gets the processor first: what answers, before what decodes bodies. Linux alone; elsewhere nothing happens.

A thread that wakes while another runs on its core waits, since Linux 6.6, until the slice of that one is over (1.4
ms on two cores, more on more), whatever their nice values are: these decide about shares, not about turns. Who asks
for a shorter slice than that is let in at once (sched_setattr(2), since 6.12), and takes no larger share.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from contextlib import suppress

_SLICE_NS = 100_000  # the shortest that Linux grants
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr, sched_getattr
_GIVING_WAY = 5  # nice: a third of the share of the loop, if both want the core; more, and a busy core starves it


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of Linux, as it was at first."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def answer_soon() -> None:
    """This thread runs for moments, and does not wait for the slices of others. Threads it starts inherit that."""
    _ask_for_slice(_SLICE_NS)


def give_way() -> None:
    """This thread decodes bodies. On one core it would else run on for milliseconds after a small push came."""
    _ask_for_slice(0)  # as long as usual, whatever the thread that started this one has
    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _GIVING_WAY)


def slice_ns() -> int | None:
    """How long this thread may run before it has to give way; None: nobody says."""
    found = _attributes()
    return None if found is None else int(found.runtime_ns) or None


def _ask_for_slice(nanoseconds: int) -> None:
    wanted = _attributes()
    if wanted is None or wanted.policy != os.SCHED_OTHER:  # real time has no slices
        return
    wanted.runtime_ns, wanted.size = nanoseconds, ctypes.sizeof(wanted)
    _call(0, ctypes.byref(wanted), 0)


def _attributes() -> _Attributes | None:
    found = _Attributes()
    return found if _call(1, ctypes.byref(found), ctypes.sizeof(found), 0) else None


def _call(which: int, *arguments: object) -> bool:
    """A system call about this thread. False: it failed, or there is none."""
    calls = _CALLS.get(platform.machine())
    if sys.platform != "linux" or calls is None:
        return False
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).syscall(calls[which], 0, *arguments) == 0)
    return False
