"""Values as integers: a decimal of at most nine places is an integer and a scale, bit for bit the same double.

What is no such decimal (NaN with its bits, infinities, -0.0, most quotients and sums of seconds) stays a double.
A scale is of a whole run, so that its integers follow each other; the rest of such a run are doubles too. The
double of an integer is `integer / 10 ** scale`: both are exact as float64, and the division rounds once (IEEE 754).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metering.lake.rows import Bools, Floats, Integers

Scales = npt.NDArray[np.int8]

MAX_SCALE = 9
POWERS: Floats = np.array([10.0**scale for scale in range(MAX_SCALE + 1)])  # all exact
_LIMIT = 1 << 53  # integers below this are exact as float64
_FURTHEST = 1 << 62  # of a delta
_PROBES = 16  # values of a run that its scale is chosen by


@dataclass(frozen=True, slots=True)
class Scaled:
    """Values by run: `integers[i]` of the run's scale where `is_exact[i]`, else anything."""

    integers: Integers
    is_exact: Bools | None  # None: all are
    scales: Scales  # by run


def to_scaled(values: Floats, counts: Integers) -> Scaled:
    """The integers of values; `counts[i]` values are of run i, one run after the other."""
    integers, is_exact = _fitted(values, None)
    scales = np.zeros(len(counts), np.int8)
    if is_exact.all():
        return Scaled(integers, None, scales)
    starts = np.cumsum(counts) - counts
    fractions = np.flatnonzero(~is_exact & np.isfinite(values))
    if len(fractions):
        runs = np.unique(np.searchsorted(starts, fractions, side="right") - 1)
        scales[runs] = _chosen_scales(values, starts[runs], counts[runs])
        rows = np.flatnonzero(np.repeat(_marked(runs, len(counts)), counts))
        powers = POWERS[np.repeat(np.maximum(scales[runs], 0), counts[runs])]
        integers[rows], is_exact[rows] = _fitted(values[rows], powers)
        is_exact[rows] &= np.repeat(_mostly(is_exact[rows], counts[runs]), counts[runs])
    return Scaled(integers, is_exact, scales)


def to_values(integers: Integers, scales: npt.NDArray[np.integer]) -> Floats:
    """The doubles of integers; both by row. Scales are 0 to 9."""
    values = integers.astype(np.float64)
    if scales.any():
        values /= POWERS[scales]
    return values


def _fitted(values: Floats, powers: Floats | None) -> tuple[Integers, Bools]:
    """Values times powers as integers, and where those give the values back."""
    with np.errstate(invalid="ignore", over="ignore"):
        integers = (values if powers is None else np.rint(values * powers)).astype(np.int64)
        back = integers.astype(np.float64)
        if powers is not None:
            back /= powers
    is_exact = back.view(np.int64) == values.view(np.int64)
    is_exact &= (integers + (_LIMIT - 1)).view(np.uint64) < 2 * _LIMIT - 1
    return integers, is_exact


def _chosen_scales(values: Floats, starts: Integers, counts: Integers) -> Scales:
    """For each run the least scale that holds all its probes that any scale holds."""
    steps = np.arange(_PROBES) * np.minimum(counts, _PROBES)[:, None] // _PROBES
    places = starts[:, None] + steps * counts[:, None] // np.minimum(counts, _PROBES)[:, None]
    probes = values[places.reshape(-1)]
    least = np.zeros(len(probes), np.int8)
    waiting = np.arange(len(probes))
    for scale, power in enumerate(POWERS):
        _, is_exact = _fitted(probes[waiting], np.full(len(waiting), power))
        least[waiting[is_exact]] = scale
        waiting = waiting[~is_exact]
    found: Scales = least.reshape(-1, _PROBES).max(axis=1)
    return found


def _mostly(is_exact: Bools, counts: Integers) -> Bools:
    """Which runs have more exact values than others; in the rest integers would cost more than they save."""
    found: Bools = 2 * np.add.reduceat(is_exact, np.cumsum(counts) - counts, dtype=np.int64) > counts
    return found


def _marked(numbers: Integers, count: int) -> Bools:
    marked = np.zeros(count, np.bool_)
    marked[numbers] = True
    return marked


@dataclass(frozen=True, slots=True)
class Chain:
    """Integers as a reference for each run and a delta for each row: an integer is the sum of the two.

    The deltas of a run begin where those of the run before ended, so that nothing jumps between two series: that is
    what a coding of differences is good at. `deltas` of rows that are doubles are anything.
    """

    references: Integers
    deltas: Integers


def to_chain(scaled: Scaled, counts: Integers) -> Chain:
    """The chain of all exact integers; `counts[i]` rows, at least one, are of run i."""
    if scaled.is_exact is None:
        return Chain(*_chained(scaled.integers, np.cumsum(counts) - counts))
    rows = np.flatnonzero(scaled.is_exact)
    runs = np.repeat(np.arange(len(counts)), counts)[rows]
    starts = np.flatnonzero(np.append(True, runs[1:] != runs[:-1])[: len(runs)])
    references, deltas = np.zeros(len(counts), np.int64), np.zeros(len(scaled.integers), np.int64)
    if len(rows):
        found, deltas[rows] = _chained(scaled.integers[rows], starts)
        last = np.searchsorted(runs[starts], np.arange(len(counts)), side="right") - 1
        references = found[np.maximum(last, 0)]  # a run without integers repeats the one before
    return Chain(references, deltas)


def _chained(integers: Integers, starts: Integers) -> tuple[Integers, Integers]:
    steps = np.empty_like(integers)
    np.subtract(integers[1:], integers[:-1], out=steps[1:])
    steps[starts] = 0
    if max(int(steps.max(initial=0)), -int(steps.min(initial=0))) * len(steps) < _FURTHEST:
        deltas = np.cumsum(steps, out=steps)
        return integers[starts] - deltas[starts], deltas
    # So long a way could leave 64 bits: each run begins at zero then.
    counts = np.diff(np.append(starts, len(integers)))
    return integers[starts], integers - np.repeat(integers[starts], counts)
