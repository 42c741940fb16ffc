"""A decoded push against the tenant's limits: which rows are taken, in what form, and why the others are not.

Pure but for the tenant's state; runs in a thread that holds the tenant's lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from kernel.errors import SlowDown
from metering.gateway.foreign.pushed import Pushed, PushedExemplar
from metering.gateway.records import Batch
from metering.gateway.series import Refusal
from metering.gateway.table import refusal_of
from metering.gateway.tenants import TenantState
from metering.record import STALE_NAN_BITS, canonical_labels
from metering.samples import ExemplarRow

NORMAL_NAN_BITS = 0x7FF8000000000001  # what Prometheus writes for a NaN that is no stale marker
_SERIES_WAIT_SECONDS = 60.0
_DAY_MS = 86_400_000
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]


@dataclass(slots=True)
class Admission:
    """What becomes of a push. `refused` counts samples and histograms by reason."""

    batch: Batch
    refused: Counter[Refusal] = field(default_factory=Counter)
    claims: int = 0  # series whose organization or project label was another's
    fault: str = ""  # what is wrong with the first histogram that was refused

    @property
    def refused_total(self) -> int:
        return self.refused.total()


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a push: wall clock in ms, and the monotonic seconds that windows are measured in."""

    now_ms: int
    monotonic: float


def admit(pushed: Pushed, state: TenantState, moment: Moment, *, whole: bool) -> Admission:
    """Check every row of a push; the caller holds the tenant's lock, and has since it was decoded.

    With `whole` (all or nothing, and the sender keeps it) what will pass with time raises SlowDown: a full series
    limit, and timestamps at most `future_wait_seconds` too far ahead. Nothing is counted as active yet for rows
    that were refused. An exemplar without its series, or out of time, is dropped: it is no sample.
    """
    refused = Counter(pushed.refused)
    every, every_time = _numbers_and_times(pushed)
    layout = None if pushed.histograms else state.table.layouts.find(every)  # the same series came before
    known = every >= 0 if layout is None else np.ones(len(every), np.bool_)
    if not known.all():
        for number, count in zip(*np.unique(every[~known], return_counts=True), strict=True):
            refused[refusal_of(int(number))] += int(count)
    if whole:
        _wait_for_time(every_time[known], state, moment.now_ms)
    keep = known & _in_time(every_time, known, state, moment.now_ms, refused)
    if layout is not None and keep.all():
        series = layout.series
    else:
        series = _distinct(every[keep], state)
    series, over = _within_active(series, state, moment, whole)
    if len(over):
        outside = np.isin(every, over)
        refused[Refusal.ACTIVE_SERIES] += int(np.count_nonzero(outside & keep))
        keep &= ~outside
    batch = _batch(pushed, state, keep, series)
    if pushed.exemplars:
        batch = _with_exemplars(batch, pushed.exemplars, state, moment.now_ms)
    return Admission(batch, refused, int(np.count_nonzero(state.table.claimed[series])), pushed.fault)


def _numbers_and_times(pushed: Pushed) -> tuple[Numbers, Times]:
    """Of the samples, and then of the histograms."""
    if not pushed.histograms:
        return pushed.numbers, pushed.timestamps_ms
    numbers = np.array([row.number for row in pushed.histograms], np.int32)
    times = np.array([row.timestamp_ms for row in pushed.histograms], np.int64)
    return np.concatenate([pushed.numbers, numbers]), np.concatenate([pushed.timestamps_ms, times])


def _batch(pushed: Pushed, state: TenantState, keep: Flags, series: Times) -> Batch:
    numbers, times, values, starts = pushed.numbers, pushed.timestamps_ms, pushed.values, pushed.starts_ms
    samples = keep[: len(numbers)]
    if not samples.all():
        numbers, times, values = numbers[samples], times[samples], values[samples]
        starts = starts[samples] if starts is not None else None
    kept = zip(pushed.histograms, keep[len(pushed.numbers) :].tolist(), strict=True)
    histograms = [row for row, is_kept in kept if is_kept]
    fixed = normalise_nan(values)
    return Batch(state.table, numbers, times, fixed, starts, histograms, (), pushed.metadata, series)


def _with_exemplars(batch: Batch, exemplars: Sequence[PushedExemplar], state: TenantState, now_ms: int) -> Batch:
    taken = set(batch.series().tolist())
    latest = now_ms + state.limits.future_seconds * 1000
    earliest = max(0, now_ms - state.limits.age_days * _DAY_MS)
    rows = [
        ExemplarRow(row.number, row.value, row.timestamp_ms, canonical_labels(row.labels))
        for row in exemplars
        if row.number in taken and earliest <= row.timestamp_ms <= latest
    ]
    return replace(batch, exemplars=rows)


def _wait_for_time(times: Times, state: TenantState, now_ms: int) -> None:
    """Raise SlowDown when the sender's clock is ahead: refused now, its samples would be lost; later they are good.

    Not for what is further ahead: behind a clock that is years off nothing would ever come through again.
    """
    limits = state.limits
    ahead_ms = int(times.max()) - now_ms if len(times) else 0
    early_ms = ahead_ms - limits.future_seconds * 1000
    if 0 < early_ms <= limits.future_wait_seconds * 1000:
        raise SlowDown(
            f"a timestamp is {ahead_ms // 1000} seconds ahead of the gateway's clock, {limits.future_seconds} are"
            " allowed: check the clock of the collector; the push is taken when its time has come",
            early_ms / 1000,
        )


def _in_time(times: Times, candidates: Flags, state: TenantState, now_ms: int, refused: Counter[Refusal]) -> Flags:
    latest = now_ms + state.limits.future_seconds * 1000
    earliest = max(0, now_ms - state.limits.age_days * _DAY_MS)
    if len(times) and earliest <= int(times.min()) and int(times.max()) <= latest:
        return np.ones(len(times), np.bool_)
    too_new, too_old = times > latest, times < earliest
    refused[Refusal.TOO_NEW] += int(np.count_nonzero(too_new & candidates))
    refused[Refusal.TOO_OLD] += int(np.count_nonzero(too_old & candidates))
    return ~(too_new | too_old)


def _distinct(numbers: Numbers, state: TenantState) -> Times:
    used = np.zeros(len(state.table), np.bool_)
    used[numbers] = True
    return np.flatnonzero(used)


def _within_active(series: Times, state: TenantState, moment: Moment, whole: bool) -> tuple[Times, Times]:
    """Count these series as active: their numbers, and those that don't fit."""
    over = state.active.without_room(state.table, series, moment.monotonic)
    if len(over):
        if whole:
            limit = state.limits.active_series
            raise SlowDown(f"{len(over)} new series over the limit of {limit} active series", _SERIES_WAIT_SECONDS)
        series = np.setdiff1d(series, over, assume_unique=True)
    state.active.touch(series, moment.monotonic)
    return series, over


def normalise_nan(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The values with the usual bits for every NaN, stale markers excepted; a copy if anything is to change."""
    ordinary = np.isnan(values)
    if not ordinary.any():
        return values
    copied = values.copy()
    bits = copied.view(np.uint64)
    bits[ordinary & (bits != np.uint64(STALE_NAN_BITS))] = np.uint64(NORMAL_NAN_BITS)
    return copied
