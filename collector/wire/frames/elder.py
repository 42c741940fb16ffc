"""Series that a new group names again: they keep the numbers that they had in the group before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from collector.wire.frames.dictionary import Dictionary, Digests, check_entries
from collector.wire.frames.model import FrameLimits, Integers
from collector.wire.frames.sections import Patch

Assign = Callable[[Sequence[bytes]], npt.NDArray[np.int64]]


class Elder(Protocol):
    """What is known of the stream in the group before."""

    @property
    def dictionary(self) -> Dictionary: ...

    @property
    def numbers(self) -> Integers: ...


def numbered(patch: Patch, added: Digests, elder: Elder | None, assign: Assign, limits: FrameLimits) -> Integers:
    """The numbers of the born, whose digests are `added`. Raises WireError.

    A digest is of slot and entry, so the same one in the same slot is the same series, which was checked before.
    """
    numbers, known = np.empty(len(added), np.int64), np.zeros(len(added), np.bool_)
    if elder is not None:
        known = (elder.dictionary.digests_of(patch.born) == added).all(axis=1)
        numbers[known] = elder.numbers[patch.born[known]]
    new = np.flatnonzero(~known)
    entries = [patch.entries[index] for index in new.tolist()]
    check_entries(entries, limits)
    numbers[new] = assign(entries)
    return numbers
