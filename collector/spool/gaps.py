"""Gaps: what was scraped, or should have been, and will never arrive. Written down, with the reason."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from collector.spool.files import load_checked, save_checked
from collector.wire.gaps import GapReason

__all__ = ["Gap", "GapReason", "GapRecords", "load_told", "save_told"]
TOLD_FILE = "told.json"
RESERVE_BYTES = 64 * 1024
MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequences [first, last] of an epoch; None where they are not known (or were never given)."""

    reason: GapReason
    recorded_ms: int
    epoch: int | None = None
    first: int | None = None
    last: int | None = None
    samples: int | None = None
    detail: str = ""


class GapRecords:
    """An append-only file of gaps. A reserve of disk is kept, and given up for them when the disk is full."""

    def __init__(self, folder: Path, name: str = "gaps.jsonl") -> None:
        self.path = folder / name
        self._reserve = folder / "reserve"
        self.told: Callable[[Gap], None] | None = None  # who else wants to know of each gap
        self.recorded = 0
        self.unwritten = 0

    def reserve(self) -> None:
        """Take the reserve again if there is room."""
        with contextlib.suppress(OSError):
            if not self._reserve.exists() or self._reserve.stat().st_size < RESERVE_BYTES:
                self._reserve.write_bytes(os.urandom(RESERVE_BYTES))

    def record(self, gap: Gap) -> None:
        """Write one gap down, durable when this returns; if even the reserve does not help, count it."""
        line = json.dumps(asdict(gap), sort_keys=True).encode() + b"\n"
        for last_try in (False, True):
            try:
                self._append(line)
            except OSError:
                if last_try:
                    self.unwritten += 1
                else:
                    self._reserve.unlink(missing_ok=True)
            else:
                self.recorded += 1
                break
        if self.told is not None:
            self.told(gap)

    def load(self) -> list[Gap]:
        """All gaps recorded; lines that are none are skipped."""
        return [gap for gap, _ in self.load_from(0)]

    def load_from(self, offset: int) -> list[tuple[Gap, int]]:
        """The gaps recorded behind that byte of the file, each with the byte at which its line ends."""
        gaps = []
        try:
            content = self.path.read_bytes()
        except OSError:
            return []
        for line in content[offset:].splitlines(keepends=True):
            offset += len(line)
            with contextlib.suppress(ValueError, TypeError):
                fields = json.loads(line)
                gaps.append((Gap(**{**fields, "reason": GapReason(fields["reason"])}), offset))
        return gaps

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size > MAX_BYTES:
                raise OSError("the file of gaps is full")
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a line before was cut off: it must not take this one with it
            if os.write(descriptor, line) != len(line):
                raise OSError("short write")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load_told(folder: Path) -> int:
    """Up to which byte of its gap records a lane has told the vendor; 0 when that is not known. Blocking."""
    through = (load_checked(folder / TOLD_FILE) or {}).get("through")
    return through if isinstance(through, int) and through >= 0 else 0


def save_told(folder: Path, through: int) -> None:
    """Durable when it returns. Raises OSError."""
    save_checked(folder / TOLD_FILE, {"through": through})
