"""From the values of samples to levels: integers of a meter's unit. Pure, numpy alone, by column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.quantity import scale_float

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NOTHING = -1  # a level: no quantity, or a stale marker that does not say that the series ended
ENDED = -2  # a level: a stale marker of a scrape that succeeded
MAX_LEVEL = 10**10  # units; times the milliseconds of a day it stays inside 64 bits
_DIGITS = 10**15  # decimals of so many digits are each another double, and its shortest form
_SIGN = np.uint64(1 << 63)


def levels_of(values: Floats, scale: int) -> Int64:
    """Doubles as levels in units of 1/scale, as `kernel.quantity.scale_float` gives them; else NOTHING.

    No quantity: NaN, markers, negative, infinite, above MAX_LEVEL. Whole units are found by column; what has more
    places is scaled once for each distinct value.
    """
    levels = np.full(len(values), NOTHING, np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        units = np.rint(values * scale)
        is_whole = (units / scale == values) & (units >= 0) & (units <= min(MAX_LEVEL, _DIGITS))
        rest = ~is_whole & (values >= 0) & (values <= MAX_LEVEL / scale + 1)
    levels[is_whole] = units[is_whole].astype(np.int64)
    if rest.any():
        distinct, inverse = np.unique(values[rest], return_inverse=True)
        levels[rest] = np.array([_level(float(value), scale) for value in distinct], np.int64)[inverse]
    return levels


def levels_of_integers(integers: Int64, scales: npt.NDArray[np.integer], scale: int) -> Int64:
    """The same of `integers / 10 ** scales`, decimals that are each the shortest form of a double."""
    levels = np.empty(len(integers), np.int64)
    for places in np.unique(scales).tolist():
        chosen = scales == places
        power = 10**places
        found = integers[chosen]
        is_safe = (found >= 0) & (found < _DIGITS) & (found // power <= MAX_LEVEL)
        small = np.where(is_safe, found, 0)
        # Twice the amount and one, over two, is half up; the product stays below 2 ** 63 for scales to 1000.
        scaled = (small // power) * scale + ((small % power) * (2 * scale) + power) // (2 * power)
        scaled[scaled > MAX_LEVEL] = NOTHING
        rest = np.flatnonzero(~is_safe)
        if len(rest):
            scaled[rest] = levels_of(found[rest] / power, scale)
        levels[chosen] = scaled
    return levels


def one_each(series: Int64, times_ms: Int64, values: Floats) -> npt.NDArray[np.intp]:
    """Row numbers by series and time, one for each time of a series.

    Of different values the lower number counts, and any number before NaN and markers: as the lake chooses.
    """
    rising = (series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (times_ms[1:] > times_ms[:-1]))
    if rising.all():
        return np.arange(len(series))
    bits = values.view(np.uint64)
    ranks = np.where(np.isnan(values) | (bits & _SIGN == 0), bits | _SIGN, ~bits)  # NaN of either sign above +Inf
    order = np.lexsort((ranks, times_ms, series))
    series, times_ms = series[order], times_ms[order]
    is_first = np.append(True, (series[1:] != series[:-1]) | (times_ms[1:] != times_ms[:-1]))
    kept: npt.NDArray[np.intp] = order[is_first]
    return kept


def is_among(keys: Int64, times_ms: Int64, other_keys: Int64, other_times_ms: Int64) -> Bools:
    """Which (key, time) are among the others: at which markers a target's scrape succeeded."""
    if not len(other_keys):
        return np.zeros(len(keys), np.bool_)
    order = np.lexsort((other_times_ms, other_keys))
    base = int(other_times_ms.min())
    width = int(other_times_ms.max()) - base + 1
    known = other_keys[order] * width + (other_times_ms[order] - base)
    wanted = keys * width + (times_ms - base)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    inside = (times_ms >= base) & (times_ms < base + width)
    found: Bools = inside & (known[at] == wanted)
    return found


def _level(value: float, scale: int) -> int:
    try:
        level = scale_float(value, scale)
    except DeadLetter:
        return NOTHING
    return level if 0 <= level <= MAX_LEVEL else NOTHING
