"""Where the fields of a message begin, all at once.

A field says how long it is, so each begins where the one before ends: a chain that takes a step for each. But a
byte that could be a tag can be looked for everywhere at once, and what the chain from the start does not reach is
left out when one asks, a few times, which of them begin where another ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

_ROUNDS = 6


class Frames(NamedTuple):
    """Fields in a row: where each begins, and where its content begins and ends."""

    tags: Places
    begins: Places
    ends: Places

    def stop(self, start: int) -> int:
        """Where the last one ends; `start` if there are none."""
        return int(self.ends[-1]) if len(self.ends) else start


def find_frames(body: Bytes, tag: int, start: int, first: int = -1) -> Frames | None:
    """The longest row of fields with this one-byte tag from `start` on; None when it takes a walk to find.

    `body` has eight bytes to spare behind its end. With `first`, their contents begin with that byte.
    """
    end = len(body) - 8
    tags = start + np.flatnonzero(body[start:end] == tag)
    low, high = body[tags + 1].astype(np.int64), body[tags + 2].astype(np.int64)
    is_long = low >= 0x80
    begins = tags + 2 + is_long
    ends = begins + np.where(is_long, low & 0x7F | high << 7, low)
    good = (~is_long | (high < 0x80)) & (ends <= end)
    if first >= 0:
        good &= body[begins] == first
    frames = Frames(tags[good], begins[good], ends[good])
    for _ in range(_ROUNDS):
        if not len(frames.tags) or frames.tags[0] != start:
            return Frames(tags[:0], begins[:0], ends[:0])
        breaks = np.flatnonzero(frames.tags[1:] != frames.ends[:-1])
        if not len(breaks):
            return frames
        reached = np.zeros(end + 1, np.bool_)
        reached[frames.ends] = True
        reached[start] = True
        kept = reached[frames.tags]
        frames = Frames(*(column[kept] for column in frames))
    return None
