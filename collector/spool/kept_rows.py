"""A kept frame, and the wanted samples of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collector.wire.frames.model import Floats, Integers


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A body as it was sent, or waits to be. `error`: why its samples can't be read any more, or empty."""

    lane: str
    epoch: int
    number: int
    sha256: str
    where: str  # the file, and the byte in it
    error: str = ""
    parts: int = 0  # in which it was pushed; 0: whole
    same_parts: int = 0  # of them, those whose bodies were made again byte for byte


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The wanted samples of a frame; `series` are numbers of `KeptLane.labels`."""

    series: Integers
    times_ms: Integers
    values: Floats
    starts: Sequence[tuple[Integers, Integers, int]] = ()  # series, when their counters began, when that was told


NOTHING = KeptRows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def joined(parts: Sequence[tuple[Integers, Integers, Floats]]) -> KeptRows:
    if not parts:
        return NOTHING
    if len(parts) == 1:
        return KeptRows(*parts[0])
    series, times, values = zip(*parts, strict=True)
    return KeptRows(np.concatenate(series), np.concatenate(times), np.concatenate(values))
