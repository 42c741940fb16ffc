"""A number for each key, which it has for as long as every kept reading has the key.

So what was decided about a key is found again by its number, wherever its row stands in the next body: whoever
keeps an array by number has to look at `born` and `gone` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int32]
NO_NUMBERS: Numbers = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Numbers of the rows of a body, by row. `born` and `gone` have no number in common, and none twice.

    `born`: numbers that no row of the last kept reading has. `gone`: numbers that no row of this one has any more;
    once it is kept they are free, and may be those of other keys in the next. All are below `limit`.
    """

    rows: Numbers
    born: Numbers
    gone: Numbers
    limit: int


NONE_NUMBERED = Numbered(NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, 0)


class Numbering:
    """The numbers of the rows of the last kept reading, and those that are free."""

    def __init__(self) -> None:
        self.last = NONE_NUMBERED
        self._free = NO_NUMBERS

    def follow(self, previous: npt.NDArray[np.int32]) -> Numbered:
        """Rows that were these of the last kept reading; below 0: new ones."""
        last = self.last
        is_new = previous < 0
        rows = np.empty(len(previous), np.int32)
        rows[~is_new] = last.rows[previous[~is_new]]
        born = self._take(int(np.count_nonzero(is_new)))
        rows[is_new] = born
        limit = max(last.limit, int(born.max(initial=-1)) + 1)
        is_gone = np.zeros(limit, np.bool_)
        is_gone[last.rows] = True
        is_gone[rows] = False
        return Numbered(rows, born, np.flatnonzero(is_gone).astype(np.int32), limit)

    def keep(self, numbered: Numbered) -> None:
        """The next rows are compared with these."""
        taken = min(len(numbered.born), len(self._free))
        self._free = np.concatenate([self._free[taken:], numbered.gone])
        self.last = Numbered(numbered.rows, NO_NUMBERS, NO_NUMBERS, numbered.limit)

    def _take(self, count: int) -> Numbers:
        reused = self._free[:count]
        limit = self.last.limit
        return np.concatenate([reused, np.arange(limit, limit + count - len(reused), dtype=np.int32)])
