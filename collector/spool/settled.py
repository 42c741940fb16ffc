"""Which frames need not be sent again: the gateway has them, or a gap record says why it never will.

A set, not one position, because fresh frames go beside the backlog. One small file, replaced as a whole.
"""

from __future__ import annotations

from pathlib import Path

from collector.spool.files import load_checked, save_checked
from collector.spool.intervals import Intervals


class Settled:
    """By epoch, the numbers that are settled. Epochs below `floor` are settled whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.floor = 0
        self.epochs: dict[int, Intervals] = {}
        self.cut: dict[int, int] = {}  # epochs whose end is damaged: from this number on, all is in a gap record
        self.is_known = False  # the file was there and good, so what it does not say was not settled

    def load(self) -> None:
        """What is on disk; a damaged or missing file means that nothing is settled: all is sent again."""
        fields = load_checked(self._path)
        try:
            if fields is None:
                self._load_cursor()
                return
            epochs = {int(epoch): Intervals((int(a), int(b)) for a, b in runs) for epoch, runs in fields["epochs"]}
            self.cut = {int(epoch): int(first) for epoch, first in fields.get("cut", [])}
            self.floor, self.epochs, self.is_known = int(fields["floor"]), epochs, True
        except (KeyError, TypeError, ValueError):
            self.floor, self.epochs, self.cut = 0, {}, {}

    def _load_cursor(self) -> None:
        """The one position that was kept before there was a set."""
        fields = load_checked(self._path.with_name("cursor.json")) or {}
        if "epoch" in fields:
            self.floor = int(fields["epoch"])
            self.epochs = {self.floor: Intervals([(1, int(fields["sequence"]))] if fields["sequence"] else ())}

    def save(self) -> None:
        """Durable when it returns. Raises OSError."""
        runs = [[epoch, list(numbers)] for epoch, numbers in sorted(self.epochs.items())]
        save_checked(self._path, {"floor": self.floor, "epochs": runs, "cut": sorted(self.cut.items())})

    def add(self, epoch: int, first: int, last: int | None = None) -> None:
        """In memory alone."""
        self.epochs.setdefault(epoch, Intervals()).add(first, last)

    def forget_before(self, floor: int) -> None:
        """Nothing of an epoch below `floor` is on disk any more."""
        self.floor = max(self.floor, floor)
        for epoch in [epoch for epoch in self.epochs if epoch < self.floor]:
            del self.epochs[epoch]
        for epoch in [epoch for epoch in self.cut if epoch < self.floor]:
            del self.cut[epoch]

    def is_complete_below(self, epoch: int, sequence: int) -> bool:
        """True when all numbers of the epoch below `sequence` are settled."""
        numbers = self.epochs.get(epoch, Intervals())
        return epoch < self.floor or not numbers.missing(1, sequence - 1)

    @property
    def newest(self) -> tuple[int, int]:
        """The greatest position settled; (0, 0) when there is none."""
        return max(
            ((epoch, numbers.highest) for epoch, numbers in self.epochs.items()),
            default=(max(0, self.floor - 1), 0),
        )

    def __contains__(self, position: tuple[int, int]) -> bool:
        epoch, sequence = position
        return epoch < self.floor or sequence in self.epochs.get(epoch, ())
