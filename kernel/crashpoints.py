"""Named places where a test may kill the process, to prove what survives.

`BYOC_CRASH_AT=spool.synced` kills this process with SIGKILL when it reaches that place; `spool.synced:3` at the
third time. Unset, as it is outside tests, a place costs one comparison.
"""

from __future__ import annotations

import os
import signal

_NAME, _, _TIMES = os.environ.get("BYOC_CRASH_AT", "").partition(":")
_left = [int(_TIMES) if _TIMES.isdigit() else 1]


def crash_point(name: str) -> None:
    """Die here, as by `kill -9`, if the environment names this place."""
    if not _NAME or name != _NAME:
        return
    _left[0] -= 1
    if _left[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
