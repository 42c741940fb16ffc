"""Samples as the files of the lake hold them, for readers that need no rows in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernel.window import Window
from metering.lake.rows import Integers
from metering.lake.stored_values import StoredValues


@dataclass(frozen=True, slots=True)
class FileRuns:
    """Rows of one file as they stand: `counts[i]` rows are of the series in row `slots[i]` of the series' table.

    A slot of -1 is a series that was not asked for.
    """

    slots: Integers
    counts: Integers
    timestamps_ms: Integers
    values: StoredValues

    def within(self, window: Window) -> FileRuns:
        """The rows of series that were asked for, in `window`."""
        chosen = (self.timestamps_ms >= window.start_ms) & (self.timestamps_ms < window.end_ms)
        if (self.slots < 0).any():
            chosen &= np.repeat(self.slots >= 0, self.counts)
        if chosen.all():
            return self
        rows = np.flatnonzero(chosen)
        ends = np.searchsorted(rows, np.cumsum(self.counts))
        counts = np.diff(ends, prepend=0)
        kept = counts > 0
        return FileRuns(self.slots[kept], counts[kept], self.timestamps_ms[rows], self.values.take(rows))

    @classmethod
    def joined(cls, parts: Sequence[FileRuns]) -> FileRuns:
        """One after the other, one at least."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.slots for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.timestamps_ms for part in parts]),
            StoredValues.joined([part.values for part in parts]),
        )


def row_order(files: Sequence[FileRuns]) -> Integers | slice | None:
    """The order of all files' rows, one file after the other, by slot and time; None: rows must be sorted.

    Files mostly follow each other in time, so that whole runs are put behind each other.
    """
    slots = np.concatenate([file.slots for file in files])
    counts = np.concatenate([file.counts for file in files])
    times = np.concatenate([file.timestamps_ms for file in files])
    starts = np.cumsum(counts) - counts
    falls = times[1:] < times[:-1]
    falls[starts[1:] - 1] = False
    if falls.any():
        return None
    first, last = times[starts], times[starts + counts - 1]
    order = np.lexsort((first, slots))
    same = slots[order][1:] == slots[order][:-1]
    if (same & (first[order][1:] <= last[order][:-1])).any():
        return None
    if (order[1:] > order[:-1]).all():
        return slice(None)
    shifts = starts[order] - (np.cumsum(counts[order]) - counts[order])
    rows: Integers = np.arange(len(times)) + np.repeat(shifts, counts[order])
    return rows
