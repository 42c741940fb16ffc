"""Usage by walking every millisecond, with nothing but dictionaries: slow, plain, written apart from the code."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from tests.usage.scrapes import METRIC, STALE, Row

COUNTED = {"query", "milvus", "index"}
Key = tuple[str, str]  # cluster, component


@dataclass(frozen=True)
class Walked:
    """What one hour of one component comes to."""

    integral: int
    observed: int
    missing: int
    peak: int
    open_at_end: bool
    levels: tuple[int, ...]  # one for each millisecond of the hour, zero where nothing is held


def walk(
    rows: Iterable[Row], spans: Sequence[tuple[int, int]], limit: int, open_before: Iterable[Key]
) -> list[dict[Key, Walked]]:
    """Every span in order; a component that neither existed nor was seen has no entry."""
    latest = _winners(rows)
    is_open = dict.fromkeys(open_before, True)
    components = {_key(labels) for (_, labels) in latest if _key(labels)} | set(is_open)
    result = []
    for start, end in spans:
        found: dict[Key, Walked] = {}
        for key in sorted(key for key in components if key):
            walked = _best(latest, key, (start, end), limit, was_open=is_open.get(key, False))
            if walked is not None:
                found[key] = walked
                is_open[key] = walked.open_at_end
        result.append(found)
    return result


Latest = dict[tuple[str, tuple[tuple[str, str], ...]], dict[int, float]]


def _winners(rows: Iterable[Row]) -> Latest:
    """(collector, labels) -> time -> value: the lowest of several, a number before any marker."""
    kept: Latest = defaultdict(dict)
    for row in rows:
        times = kept[row.collector, row.labels]
        if row.at_ms not in times or _rank(row.value) < _rank(times[row.at_ms]):
            times[row.at_ms] = row.value
    return kept


def _rank(value: float) -> tuple[int, float, int]:
    if math.isnan(value):
        return 1, 0.0, int(not _is_stale(value))
    return 0, value, 0


def _is_stale(value: float) -> bool:
    return struct.pack("<d", value) == struct.pack("<d", STALE)


def _key(labels: tuple[tuple[str, str], ...]) -> Key | None:
    named = dict(labels)
    if named["__name__"] != METRIC or named["component"] not in COUNTED:
        return None
    return named["cluster"], named["component"]


def _level(value: float) -> int | None:
    if not math.isfinite(value) or value < 0:
        return None
    return int((Decimal(repr(value)) * 1000).to_integral_value(ROUND_HALF_UP))


def _best(latest: Latest, key: Key, span: tuple[int, int], limit: int, *, was_open: bool) -> Walked | None:
    seen = []
    for collector in sorted({collector for collector, _ in latest}):
        levels = [_level_at(latest, collector, key, at, limit) for at in range(*span)]
        endings = [at for at in range(*span) if _ends(latest, collector, key, at)]
        held = [at for at, level in zip(range(*span), levels, strict=True) if level is not None]
        if held or endings:
            heard_until = max([at + 1 for at in held] + endings)
            walked = _walk_one(levels, set(endings), span[0], was_open=was_open)
            seen.append(((-walked.observed, -heard_until, collector), walked))
    if not seen:
        length = span[1] - span[0]
        return Walked(0, 0, length, 0, True, (0,) * length) if was_open else None
    walked = min(seen, key=lambda entry: entry[0])[1]
    return walked if walked.observed or walked.missing or was_open else None


def _walk_one(levels: Sequence[int | None], endings: set[int], start: int, *, was_open: bool) -> Walked:
    is_open, missing = was_open, 0
    for offset, level in enumerate(levels):
        if level is not None:
            is_open = True
            continue
        if start + offset in endings:
            is_open = False
        missing += is_open
    held = [level for level in levels if level is not None]
    filled = tuple(level or 0 for level in levels)
    return Walked(sum(held), len(held), missing, max(held, default=0), is_open, filled)


def _level_at(latest: Latest, collector: str, key: Key, at: int, limit: int) -> int | None:
    found = []
    for (owner, labels), times in latest.items():
        before = [time for time in times if at - limit < time <= at]
        if owner == collector and _key(labels) == key and before:
            level = _level(times[max(before)])
            if level is not None:
                found.append(level)
    return max(found, default=None)


def _ends(latest: Latest, collector: str, key: Key, at: int) -> bool:
    for (owner, labels), times in latest.items():
        if owner == collector and _key(labels) == key and at in times and _is_stale(times[at]):
            target = {(name, value) for name, value in labels if name in {"instance", "job"}}
            for (other, up_labels), ups in latest.items():
                is_up = dict(up_labels)["__name__"] == "up" and target <= set(up_labels)
                if other == collector and is_up and ups.get(at) == 1.0:
                    return True
    return False
