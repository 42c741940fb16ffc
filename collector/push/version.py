"""Which version of remote write the gateway takes: 2.0 until it says otherwise, remembered, asked again daily."""

from __future__ import annotations

import contextlib
from pathlib import Path

from collector.spool.files import load_checked, save_checked
from kernel.clock import Clock

RETRY_AFTER_MS = 24 * 3600 * 1000


class VersionMemory:
    """Remembers a 415 over restarts."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        fields = load_checked(path) or {}
        since = fields.get("version_1_since_ms")
        self._since_ms: int | None = since if isinstance(since, int) else None

    @property
    def version_2(self) -> bool:
        """Whether to send 2.0 now."""
        if self._since_ms is None:
            return True
        return not 0 <= self._clock.now_ms() - self._since_ms < RETRY_AFTER_MS

    def refused(self) -> None:
        """The gateway does not take 2.0. Blocking."""
        self._since_ms = self._clock.now_ms()
        with contextlib.suppress(OSError):  # then it is asked again after a restart, no more
            save_checked(self._path, {"version_1_since_ms": self._since_ms})

    def accepted(self) -> None:
        """The gateway took 2.0. Blocking."""
        if self._since_ms is not None:
            self._since_ms = None
            self._path.unlink(missing_ok=True)
