"""Named places where a test may kill the process, to prove what survives.

`BYOC_CRASH_AT=spool.synced` kills this process with SIGKILL when it reaches that place; `spool.synced:3` at the
third time. With `BYOC_CRASH_SIGNAL=SIGSTOP` it is halted there instead, until SIGCONT: a process that was thought
dead. Either way it first says so on stderr. Unset, as it is outside tests, a place costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_armed: dict[str, int] = {}
_watcher: Callable[[str], None] | None = None


def arm(place: str) -> None:
    """Die at `name` or `name:times`; the empty text disarms."""
    name, _, times = place.partition(":")
    _armed.clear()
    if name:
        _armed[name] = int(times) if times.isdigit() else 1
    watch(_die_if_armed if name else None)


def watch(watcher: Callable[[str], None] | None) -> None:
    """Tell `watcher` the name of each place that is reached from now on, instead of dying there; None: nobody."""
    global _watcher  # noqa: PLW0603 - one for the process, as its death is
    _watcher = watcher


def crash_point(name: str) -> None:
    """Die here, as by `kill -9`, if the environment or `arm` names this place."""
    if _watcher is not None:
        _watcher(name)


def _die_if_armed(name: str) -> None:
    if name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] <= 0:
        _armed.clear()
        os.write(2, f"crash point {name}\n".encode())
        os.kill(os.getpid(), signal.Signals[os.environ.get("BYOC_CRASH_SIGNAL", "SIGKILL")])


arm(os.environ.get("BYOC_CRASH_AT", ""))
