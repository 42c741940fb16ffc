"""Which processes that opened a log file are still alive, by locks that the kernel drops with the process.

A lease alone would keep the partitions of a killed process for its whole length; a lock on a file answers at once,
across containers on one machine too, where process ids mean nothing.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path


class ProcessMark:
    """A locked file `<folder>/<name>.alive` for as long as this process, or this object, lives."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._folder = folder
        self._path = self._path_of(self.name)
        self._descriptor: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_alive(self, name: str) -> bool:
        """Whether the process that made mark `name` still holds it; the mark of a dead one is removed."""
        if name == self.name:
            return self._descriptor is not None
        path = self._path_of(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Drop the lock and the file. Idempotent."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _path_of(self, name: str) -> Path:
        return self._folder / f"{Path(name).name}.alive"
