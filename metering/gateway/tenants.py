"""What the gateway remembers of each tenant: its bucket, its active series, its checked labels."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from collector.wire.model import LabelCache, Labels
from kernel.ids import Tenant
from metering.gateway.buckets import TokenBucket
from metering.gateway.series import CheckedSeries, check_series
from metering.gateway.settings import TenantLimits

_SWEEP_SECONDS = 10.0


class ActiveSeries:
    """Hashes of series with the time of their last sample; never more than the limit."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit, self._window = limit, window_seconds
        self._seen: dict[int, float] = {}
        self._swept = float("-inf")

    def __len__(self) -> int:
        return len(self._seen)

    def room_for(self, hashes: Iterable[int], now: float) -> set[int]:
        """Those of `hashes` that are not known and would not fit; empty when all may come."""
        new = list(dict.fromkeys(key for key in hashes if key not in self._seen))
        if len(self._seen) + len(new) > self._limit:
            self._sweep(now)
        return set(new[max(0, self._limit - len(self._seen)) :])

    def touch(self, hashes: Iterable[int], now: float) -> None:
        """Mark as active. The caller has asked `room_for` these."""
        self._seen.update(dict.fromkeys(hashes, now))

    def _sweep(self, now: float) -> None:
        if now - self._swept < _SWEEP_SECONDS:  # a sender at its limit must not make us sweep at each push
            return
        self._swept = now
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen < self._window}


class TenantState:
    """One tenant. `lock` guards everything but the caches while threads of two of its pushes run."""

    def __init__(self, tenant: Tenant, limits: TenantLimits, now: float, decodes: int = 1) -> None:
        self.tenant, self.limits = tenant, limits
        self.bucket = TokenBucket.full(limits.samples_per_second, limits.burst_samples, now)
        self.active = ActiveSeries(limits.active_series, limits.active_series_seconds)
        self.labels = LabelCache(limits.series_cache_bytes // 2)
        self.turns = asyncio.Semaphore(limits.concurrent_pushes)
        self.decodes = asyncio.Semaphore(decodes)
        self.lock = threading.Lock()
        self.used = now
        self._checked: dict[Labels, CheckedSeries] = {}
        self._checked_bytes = 0

    def check(self, labels: Labels) -> CheckedSeries:
        """`check_series`, remembered."""
        checked = self._checked.get(labels)
        if checked is None:
            checked = check_series(labels, self.tenant, self.limits)
            self._remember(labels, checked)
        return checked

    def _remember(self, labels: Labels, checked: CheckedSeries) -> None:
        # dict entry, verdict, canonical bytes, and the pairs, which remote write 2.0 does not share between series
        size = 350 + 72 * len(labels) + len(checked.canonical or b"")
        limit = self.limits.series_cache_bytes // 2
        # A refused series may be of any size; remembering it would let refused bodies fill the memory.
        if checked.canonical is None or size > limit:
            return
        if self._checked_bytes + size > limit:
            self._checked, self._checked_bytes = {}, 0
        self._checked[labels] = checked
        self._checked_bytes += size


class Tenants:
    """The states, made at a tenant's first push and forgotten after a time of silence."""

    def __init__(self, limits: TenantLimits, decodes: int = 1) -> None:
        """`decodes`: bodies of one tenant that may be decoded at the same time."""
        self._limits = limits
        self._decodes = decodes
        self._states: dict[Tenant, TenantState] = {}

    def __len__(self) -> int:
        return len(self._states)

    def state(self, tenant: Tenant, now: float) -> TenantState:
        """The state of a tenant that is pushing now."""
        state = self._states.get(tenant)
        if state is None:
            state = self._states[tenant] = TenantState(tenant, self._limits, now, self._decodes)
        state.used = now
        return state

    def active_series(self) -> int:
        """Over all tenants."""
        return sum(len(state.active) for state in self._states.values())

    def forget_silent(self, now: float) -> None:
        """Drop who has been silent for as long as a series stays active, with a bucket that is full again."""
        window = self._limits.active_series_seconds
        for tenant, state in list(self._states.items()):
            if now - state.used > window and state.bucket.is_full(now):
                del self._states[tenant]
