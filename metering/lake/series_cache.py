"""Series that were read last, while the table of series stays as it is: usage asks for the same ones each day."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import pyarrow as pa

MOST_ROWS = 200_000  # some 300 bytes each


@dataclass
class SeriesCache:
    """Answers by the question and the snapshot that it was asked of. Threads may share it."""

    most_rows: int = MOST_ROWS
    _known: OrderedDict[tuple[Any, ...], pa.Table] = field(default_factory=OrderedDict)
    _rows: int = 0
    _lock: Lock = field(default_factory=Lock)

    def get(self, question: tuple[Any, ...], read: Callable[[], pa.Table]) -> pa.Table:
        """The answer to a question, which names a snapshot. Raises what `read` raises."""
        with self._lock:
            if question in self._known:
                self._known.move_to_end(question)
                return self._known[question]
        found = read()
        with self._lock:
            if question not in self._known:
                self._known[question] = found
                self._rows += _weight(found)
            while self._rows > self.most_rows and len(self._known) > 1:
                self._rows -= _weight(self._known.popitem(last=False)[1])
        return found


def _weight(table: pa.Table) -> int:
    return int(table.num_rows) + 1
