"""When a thing had which level, and when it was there but not seen. Pure, by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernel.window import Window
from metering.meters.arithmetic import Int64


@dataclass(frozen=True, slots=True)
class Held:
    """Stretches `[start, end)` with a level; sorted, disjoint."""

    starts: Int64
    ends: Int64
    levels: Int64


def union(parts: Sequence[Held]) -> Held:
    """One function of several series of the same thing: where they overlap the highest counts, never the sum."""
    if len(parts) == 1:
        return parts[0]
    edges = np.unique(np.concatenate([edge for part in parts for edge in (part.starts, part.ends)]))
    if len(edges) < 2:
        return Held(edges[:0], edges[:0], edges[:0])
    starts, ends = edges[:-1], edges[1:]
    levels = np.full(len(starts), -1, np.int64)
    for part in parts:
        if len(part.starts) == 0:
            continue
        at = np.searchsorted(part.starts, starts, side="right") - 1
        covered = (at >= 0) & (part.ends[at] > starts)
        levels[covered] = np.maximum(levels[covered], part.levels[at][covered])
    keep = levels >= 0
    return joined(Held(starts[keep], ends[keep], levels[keep]))


def joined(held: Held) -> Held:
    """Neighbours that touch and have one level are one."""
    if len(held.starts) == 0:
        return held
    first = np.ones(len(held.starts), np.bool_)
    first[1:] = (held.starts[1:] != held.ends[:-1]) | (held.levels[1:] != held.levels[:-1])
    last = np.append(first[1:], True)
    return Held(held.starts[first], held.ends[last], held.levels[first])


def gaps(held: Held, ended_ms: Int64, span: Window, *, open_before: bool) -> tuple[Int64, Int64]:
    """Starts and ends of the times in `span` at which the thing existed, as far as is known, but was not observed.

    `ended_ms`, ascending: when it was seen to end; `open_before`: it existed before the span.
    """
    inside = (held.starts < span.end_ms) & (held.ends > span.start_ms)
    starts = np.concatenate([[span.start_ms], np.minimum(held.ends[inside], span.end_ms)])
    ends = np.concatenate([np.maximum(held.starts[inside], span.start_ms), [span.end_ms]])
    existed = ends > starts
    existed[0] &= open_before
    starts, ends = starts[existed], ends[existed]
    if len(ended_ms):
        at = np.searchsorted(ended_ms, starts, side="left")
        found = ended_ms[np.minimum(at, len(ended_ms) - 1)]
        ends = np.where((at < len(ended_ms)) & (found < ends), found, ends)
    kept = ends > starts
    return starts[kept], ends[kept]
