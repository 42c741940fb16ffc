"""The same arithmetic, sample by sample in plain Python: slow, and written apart from what it checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal


def scaled(value: float, scale: int) -> int | None:
    if math.isnan(value) or math.isinf(value) or value < 0:
        return None
    whole = int((Decimal(repr(value)) * scale).quantize(Decimal(1), ROUND_HALF_UP)) if value < 1e18 else None
    return whole if whole is not None and whole < 2**63 else None


def increase(
    samples: Sequence[tuple[int, int]], told: Sequence[tuple[int, int]], start_ms: int, end_ms: int
) -> int:
    """Growth in `[start, end)` of a counter given as (ms, count); `told`: (seen ms, start ms)."""
    total = 0
    for number, (at, count) in enumerate(samples):
        if not start_ms <= at < end_ms:
            continue
        if number == 0:
            begun = [start for seen, start in told if seen <= at]
            total += count if begun and begun[-1] >= 0 else 0
            continue
        before_at, before = samples[number - 1]
        total += count if count < before or _moved(told, before_at, at) else count - before
    return total


def _moved(told: Sequence[tuple[int, int]], after: int, until: int) -> bool:
    known = [(seen, start) for seen, start in told if seen <= until]
    return bool(known) and known[-1][0] > after and known[-1][1] > after


def integral(stretches: Sequence[tuple[int, int, int]], start_ms: int, end_ms: int) -> int:
    """Of (start, end, level) stretches."""
    return sum(max(0, min(end, end_ms) - max(start, start_ms)) * level for start, end, level in stretches)
