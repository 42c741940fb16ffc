"""Named places where a test may kill the process, to prove what survives.

`BYOC_CRASH_AT=spool.synced` kills this process with SIGKILL when it reaches that place; `spool.synced:3` at the
third time. With `BYOC_CRASH_SIGNAL=SIGSTOP` it is halted there instead, until SIGCONT: a process that was thought
dead. Either way it first says so on stderr. Unset, as it is outside tests, a place costs one comparison.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}


def arm(place: str) -> None:
    """Die at `name` or `name:times`; the empty text disarms."""
    name, _, times = place.partition(":")
    _armed.clear()
    if name:
        _armed[name] = int(times) if times.isdigit() else 1


def crash_point(name: str) -> None:
    """Die here, as by `kill -9`, if the environment or `arm` names this place."""
    if not _armed or name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] <= 0:
        _armed.clear()
        os.write(2, f"crash point {name}\n".encode())
        os.kill(os.getpid(), signal.Signals[os.environ.get("BYOC_CRASH_SIGNAL", "SIGKILL")])


arm(os.environ.get("BYOC_CRASH_AT", ""))
