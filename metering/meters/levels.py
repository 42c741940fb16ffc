"""The summed level of several things over time, hour by hour. Pure, by column."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from kernel.window import HOUR_MS, Window
from metering.meters.arithmetic import Int64, exact
from metering.meters.held import Held
from metering.usage.levels import Bools
from metering.usage.stretches import Stretches, cut_at

Level = tuple[int, int | None]  # from this ms on; None: nothing is observed


def summed_levels(parts: Sequence[tuple[Held, Bools]], span: Window) -> list[tuple[Level, ...]]:
    """For each hour of `span` the sum of all levels from each moment on at which it changes.

    Each part comes with the hours in which it counts.
    """
    edges = np.arange(span.start_ms, span.end_ms + 1, HOUR_MS, dtype=np.int64)
    owners = np.repeat(np.arange(len(parts)), [len(held.starts) for held, _ in parts])
    starts, ends, levels = (
        np.concatenate([getattr(held, name) for held, _ in parts]) for name in ("starts", "ends", "levels")
    )
    pieces, hours = cut_at(Stretches(owners, starts, ends, levels), edges)
    counts = np.stack([where for _, where in parts])[pieces.owners, hours]
    found = pieces.take(counts)
    return _by_hour(found, hours[counts], edges)


def _by_hour(pieces: Stretches, hours: Int64, edges: Int64) -> list[tuple[Level, ...]]:
    count = len(edges) - 1
    if not len(hours):
        return [()] * count
    hours = np.concatenate([hours, hours])
    times = np.concatenate([pieces.starts, pieces.ends])
    levels = exact(pieces.levels, len(times))
    changes, held = np.concatenate([levels, -levels]), np.ones(len(levels), np.int64)
    order = np.lexsort((times, hours))
    hours, times = hours[order], times[order]
    first = np.flatnonzero(np.append(True, (hours[1:] != hours[:-1]) | (times[1:] != times[:-1])))
    hours, times = hours[first], times[first]
    # Every hour ends with nothing held: none leads into the next.
    total = np.cumsum(np.add.reduceat(changes[order], first))
    is_held = np.cumsum(np.add.reduceat(np.concatenate([held, -held])[order], first)) > 0
    differs = np.append(True, (is_held[1:] != is_held[:-1]) | (total[1:] != total[:-1]))
    kept = differs & (times < edges[hours + 1])
    bounds = np.searchsorted(hours[kept], np.arange(count + 1)).tolist()
    rows = zip(times[kept].tolist(), total[kept].tolist(), is_held[kept].tolist(), strict=True)
    points: list[Level] = [(at, level if seen else None) for at, level, seen in rows]
    return [tuple(points[start:end]) for start, end in pairwise(bounds)]
