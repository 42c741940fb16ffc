"""The different values of an array. numpy's `unique` loads numpy.ma for it, which is 6 MB of memory."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Integer = TypeVar("Integer", bound=np.integer)


def distinct(values: npt.NDArray[Integer]) -> npt.NDArray[Integer]:
    """Each integer once, ascending."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def is_among(values: npt.NDArray[Integer], some: npt.NDArray[Integer]) -> npt.NDArray[np.bool_]:
    """Which of the integers are among `some`."""
    return is_in_sorted(values, np.sort(some))


def is_in_sorted(values: npt.NDArray[Integer], ordered: npt.NDArray[Integer]) -> npt.NDArray[np.bool_]:
    """Which of the integers are in `ordered`, which ascends."""
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[places] == values
    return found
