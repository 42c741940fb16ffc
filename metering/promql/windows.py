"""Functions of a window of samples: `rate` and `*_over_time`. Pure; one row a series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metering.promql.vector import Floats, Vector, Windows


def apply_window_function(function: str, windows: Windows) -> Vector:
    """The value of `function` for each series that has enough samples in the window."""
    if function in {"rate", "increase", "delta"}:
        return _extrapolated(windows, is_counter=function != "delta", per_second=function == "rate")
    found = windows.counts > 0
    values = _OVER_TIME[function](_take(windows, found)) if found.any() else np.empty(0, np.float64)
    result = Vector(windows.table, windows.rows[found], values)
    return result if function == "last_over_time" else result.without_name()


def _take(windows: Windows, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Windows:
    if rows.all():
        return windows
    return Windows(
        windows.table,
        windows.rows[rows],
        windows.first_ms[rows],
        windows.last_ms[rows],
        windows.values[rows],
        windows.counts[rows],
        start_ms=windows.start_ms,
        end_ms=windows.end_ms,
    )


def _filled(windows: Windows, padding: float) -> Floats:
    present = np.arange(windows.values.shape[1]) < windows.counts[:, None]
    return np.where(present, windows.values, padding)


def _last(windows: Windows) -> Floats:
    return np.asarray(windows.values[np.arange(len(windows.counts)), windows.counts - 1])


def _sum(windows: Windows) -> Floats:
    return np.asarray(_filled(windows, 0.0).sum(axis=1))


_OVER_TIME: dict[str, Callable[[Windows], Floats]] = {
    # fmin and fmax pass over NaN unless all samples are NaN, as Prometheus does
    "min_over_time": lambda windows: np.asarray(np.fmin.reduce(_filled(windows, np.nan), axis=1)),
    "max_over_time": lambda windows: np.asarray(np.fmax.reduce(_filled(windows, np.nan), axis=1)),
    "avg_over_time": lambda windows: _sum(windows) / windows.counts,
    "sum_over_time": _sum,
    "count_over_time": lambda windows: windows.counts.astype(np.float64),
    "last_over_time": _last,
}


def _extrapolated(windows: Windows, *, is_counter: bool, per_second: bool) -> Vector:
    """`rate`, `increase` and `delta` as Prometheus 3 extrapolates them (promql/functions.go, extrapolatedRate).

    The difference of the last and first sample, with the values before each reset added for a counter, is
    stretched to the window's edges: wholly when the edge is nearer than 1.1 mean distances, else by half a mean
    distance, and for a counter never to before it would have been zero.
    """
    windows = _take(windows, windows.counts > 1)
    if not len(windows.counts):
        return Vector(windows.table, windows.rows, np.empty(0, np.float64)).without_name()
    row = np.arange(len(windows.counts))
    last = windows.counts - 1
    result = windows.values[row, last] - windows.values[:, 0]
    if is_counter:
        result = result + _resets(windows)
    sampled = (windows.last_ms - windows.first_ms) / 1000
    mean = sampled / last
    to_start = (windows.first_ms - windows.start_ms) / 1000
    to_end = (windows.end_ms - windows.last_ms) / 1000
    to_start = np.where(to_start >= mean * 1.1, mean / 2, to_start)
    to_end = np.where(to_end >= mean * 1.1, mean / 2, to_end)
    if is_counter:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            to_zero = sampled * (windows.values[:, 0] / result)
        reaches_zero = (result > 0) & (windows.values[:, 0] >= 0) & (to_zero < to_start)
        to_start = np.where(reaches_zero, to_zero, to_start)
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor = factor / ((windows.end_ms - windows.start_ms) / 1000)
    with np.errstate(over="ignore", invalid="ignore"):
        values = result * factor
    return Vector(windows.table, windows.rows, values).without_name()


def _resets(windows: Windows) -> Floats:
    before, after = windows.values[:, :-1], windows.values[:, 1:]
    fell = (after < before) & (np.arange(1, windows.values.shape[1]) < windows.counts[:, None])
    series, sample = np.nonzero(fell)
    lost = np.bincount(series, weights=before[series, sample], minlength=len(windows.counts))
    return np.asarray(lost, np.float64)
