"""Gaps: what was scraped, or should have been, and will never arrive. Written down, with the reason."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

RESERVE_BYTES = 64 * 1024
MAX_BYTES = 16 * 1024 * 1024


class GapReason(StrEnum):
    """Why a frame will not arrive."""

    QUOTA = "quota"  # the oldest frames made room, or were too old
    DISK = "disk"  # the disk did not take the frame
    DAMAGE = "damage"  # the frame was damaged on disk, or builds on one that was
    REFUSED = "refused"  # the gateway refused samples for good: at once, or after it had taken them (signed)
    PURGED = "purged"  # somebody said so: `byoc collector spool purge`


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
        gaps = []
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                fields = json.loads(line)
                gaps.append(Gap(**{**fields, "reason": GapReason(fields["reason"])}))
        return gaps

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(descriptor).st_size > MAX_BYTES:
                raise OSError("the file of gaps is full")
            if os.write(descriptor, line) != len(line):
                raise OSError("short write")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
