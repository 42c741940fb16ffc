"""A decoded push against the tenant's limits: which rows are taken, in what form, and why the others are not.

Pure but for the tenant's state; runs in a thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from collector.wire.model import Decoded
from kernel.errors import SlowDown
from metering.gateway.series import Refusal
from metering.gateway.tenants import TenantState
from metering.record import STALE_NAN_BITS, SampleBatch

NORMAL_NAN_BITS = 0x7FF8000000000001  # what Prometheus writes for a NaN that is no stale marker
PLACE_BYTES = 1024
_SERIES_WAIT_SECONDS = 60.0
_DAY_MS = 86_400_000


@dataclass(slots=True)
class Admission:
    """What becomes of a push. `refused` counts samples (and histograms) by reason."""

    batch: SampleBatch
    refused: Counter[Refusal] = field(default_factory=Counter)
    claims: int = 0  # series whose organization or project label was another's

    @property
    def refused_total(self) -> int:
        return self.refused.total()


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a push: wall clock in ms, and the monotonic seconds that windows are measured in."""

    now_ms: int
    monotonic: float


def admit(decoded: Decoded, state: TenantState, moment: Moment, *, whole: bool) -> Admission:
    """Check every series and row.

    With `whole` (all or nothing, and the sender keeps it) what will pass with time raises SlowDown: a full series
    limit, and timestamps at most `future_wait_seconds` too far ahead. Nothing is counted as active yet for rows
    that were refused.
    """
    refused: Counter[Refusal] = Counter()
    slots = _Slots()
    series_slot, claims = _check_all(decoded, state, slots, refused)
    index = np.frombuffer(decoded.series_index, np.int32)
    times = np.frombuffer(decoded.timestamps_ms, np.int64)
    row_slot = series_slot[index]
    if whole:
        _wait_for_time(times[row_slot >= 0], state, moment.now_ms)
    keep = (row_slot >= 0) & _in_time(times, row_slot >= 0, state, moment.now_ms, refused)
    keep &= _within_active(row_slot, keep, slots, state, moment, refused, whole)
    if decoded.histograms:
        refused[Refusal.HISTOGRAM] += decoded.histograms
    values = normalise_nan(np.frombuffer(decoded.values, np.float64)[keep])
    batch = SampleBatch(tuple(slots.canonical), row_slot[keep], times[keep], values)
    return Admission(batch, refused, claims)


class _Slots:
    """Distinct canonical series, in the order of their first sight."""

    def __init__(self) -> None:
        self.canonical: list[bytes] = []
        self._of: dict[bytes, int] = {}

    def slot(self, canonical: bytes) -> int:
        slot = self._of.get(canonical)
        if slot is None:
            slot = self._of[canonical] = len(self.canonical)
            self.canonical.append(canonical)
        return slot


def _check_all(
    decoded: Decoded, state: TenantState, slots: _Slots, refused: Counter[Refusal]
) -> tuple[npt.NDArray[np.int32], int]:
    """The slot of each series of the body, -1 for a refused one."""
    found = np.full(len(decoded.series) or 1, -1, np.int32)
    claims = 0
    bad: dict[int, Refusal] = {}
    for position, labels in enumerate(decoded.series):
        checked = state.check(labels)
        if checked.canonical is None:
            assert checked.refusal is not None
            bad[position] = checked.refusal
        else:
            found[position] = slots.slot(checked.canonical)
            claims += checked.claims > 0
    if bad:
        rows = np.bincount(np.frombuffer(decoded.series_index, np.int32), minlength=len(decoded.series))
        for position, reason in bad.items():
            refused[reason] += int(rows[position])
    return found, claims


def _wait_for_time(times: npt.NDArray[np.int64], state: TenantState, now_ms: int) -> None:
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


def _in_time(
    times: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.bool_],
    state: TenantState,
    now_ms: int,
    refused: Counter[Refusal],
) -> npt.NDArray[np.bool_]:
    too_new = times > now_ms + state.limits.future_seconds * 1000
    too_old = times < max(0, now_ms - state.limits.age_days * _DAY_MS)
    refused[Refusal.TOO_NEW] += int(np.count_nonzero(too_new & candidates))
    refused[Refusal.TOO_OLD] += int(np.count_nonzero(too_old & candidates))
    return ~(too_new | too_old)


def _within_active(
    row_slot: npt.NDArray[np.int32],
    keep: npt.NDArray[np.bool_],
    slots: _Slots,
    state: TenantState,
    moment: Moment,
    refused: Counter[Refusal],
    whole: bool,
) -> npt.NDArray[np.bool_]:
    """Count the series of the rows as active; rows of series that don't fit are False."""
    used = [int(slot) for slot in np.unique(row_slot[keep])]
    places = {slot: _places(slots.canonical[slot]) for slot in used}
    with state.lock:
        unfit = state.active.room_for(chain.from_iterable(places.values()), moment.monotonic)
        over = {slot for slot, keys in places.items() if unfit.intersection(keys)} if unfit else set()
        if over and whole:
            limit = state.limits.active_series
            raise SlowDown(f"{len(over)} new series over the limit of {limit} active series", _SERIES_WAIT_SECONDS)
        fitting = (keys for slot, keys in places.items() if slot not in over)
        state.active.touch(chain.from_iterable(fitting), moment.monotonic)
    if not over:
        return np.ones(len(row_slot), np.bool_)
    late = np.asarray(sorted(over), np.int32)
    outside = np.isin(row_slot, late)
    refused[Refusal.ACTIVE_SERIES] += int(np.count_nonzero(outside & keep))
    return ~outside


def _places(canonical: bytes) -> tuple[int, ...]:
    """What a series takes of the limit: one place for each begun kilobyte of its labels."""
    further = (len(canonical) - 1) // PLACE_BYTES
    if not further:
        return (hash(canonical),)
    return (hash(canonical), *(hash((canonical, number)) for number in range(further)))


def normalise_nan(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A copy in which every NaN has the usual bits, stale markers excepted."""
    copied = values.copy()
    bits = copied.view(np.uint64)
    ordinary = np.isnan(copied) & (bits != np.uint64(STALE_NAN_BITS))
    bits[ordinary] = np.uint64(NORMAL_NAN_BITS)
    return copied
