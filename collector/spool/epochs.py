"""Epochs: one for each boot, growing whatever the clock does; and where each of them ended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from collector.spool.files import load_checked, save_checked

_MAX_KNOWN = 10_000


class Epochs:
    """Blocking. `ends`: the last sequence of each earlier epoch that sent anything."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.current = 0
        self.ends: dict[int, int] = {}

    def load(self) -> None:
        """What is on disk; nothing when it is damaged."""
        fields = load_checked(self._path) or {}
        try:
            self.current = int(fields.get("epoch", 0))
            self.ends = {int(epoch): int(last) for epoch, last in fields.get("ends", [])}
        except (TypeError, ValueError):
            self.current, self.ends = 0, {}

    def begin(self, now_ms: int, found: Iterable[tuple[int, int]]) -> int:
        """After `load`, a new epoch: over all on record and `found` (epoch, last sequence). Raises OSError."""
        newest = max([self.current, *self.ends])
        for epoch, last in found:
            newest = max(newest, epoch)
            if last:
                self.ends[epoch] = max(last, self.ends.get(epoch, 0))
        self.current = max(newest + 1, now_ms)
        kept = sorted(self.ends.items())[-_MAX_KNOWN:]
        save_checked(self._path, {"epoch": self.current, "ends": kept})
        return self.current

    def before(self, epoch: int) -> tuple[int, int] | None:
        """The epoch before this one that sent anything, and its last sequence; None: there is none on record."""
        earlier = [one for one in self.ends if one < epoch]
        return (max(earlier), self.ends[max(earlier)]) if earlier else None
