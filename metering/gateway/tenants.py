"""What the gateway remembers of each tenant: its bucket, its active series, its checked labels."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum, auto

from kernel.ids import Tenant
from metering.gateway.active import ActiveSeries
from metering.gateway.foreign.compiled import rw1_decoder, rw2_decoder
from metering.gateway.otlp.decode import OtlpDecoder
from metering.gateway.settings import TenantLimits
from metering.gateway.shares import OWN_PLACES, MemoryShares, Shares
from metering.gateway.table import SeriesTable


class Kind(Enum):
    """Of pushes, by what their bytes hold."""

    FRAMES = auto()
    NOTICE = auto()
    REMOTE_WRITE = auto()
    OTLP = auto()


class TenantState:
    """One tenant. Who holds `lock` may use the table, the decoders and the active series; pushes run in threads."""

    def __init__(
        self, tenant: Tenant, limits: TenantLimits, now: float, decodes: int = 1, shares: Shares | None = None
    ) -> None:
        shares = shares or MemoryShares(limits)
        self.tenant, self.limits = tenant, limits
        self.bucket = shares.bucket(tenant, now)
        self.active = ActiveSeries(
            lambda wanted: shares.hold(tenant, OWN_PLACES, wanted), limits.active_series_seconds
        )
        self.turns = asyncio.Semaphore(limits.concurrent_pushes)
        self.decodes = asyncio.Semaphore(decodes)
        self.lock = threading.Lock()
        self.used = now
        self.expected = 0.0  # samples of pushes under way
        self.refused_at = 0.0  # when the last refusal goes out, in monotonic seconds
        self._last: dict[Kind, tuple[int, int]] = {}
        self._renew()

    def guess(self, kind: Kind, size_bytes: int | None) -> float:
        """Samples of a push of which only the size is known, if that: by the last one, and at most as many."""
        samples, size = self._last.get(kind, (1, 0))
        if size_bytes is not None and size_bytes < size:
            return max(1.0, samples * size_bytes / size)
        return max(1.0, samples)

    def learn(self, kind: Kind, samples: int, size_bytes: int | None) -> None:
        """What a push of this kind held."""
        self._last[kind] = samples, size_bytes or 0

    def _renew(self) -> None:
        self.table = SeriesTable(self.tenant, self.limits)
        templates = self.limits.series_cache_bytes // 2
        self.rw1 = rw1_decoder(self.table, templates)
        self.rw2 = rw2_decoder(self.table, templates)
        self.otlp = OtlpDecoder(self.table, templates)

    def trim(self) -> None:
        """Begin again from empty when what is remembered of the series has become too large."""
        size = self.table.size_bytes + self.rw1.known_bytes + self.rw2.known_bytes + self.otlp.known_bytes
        if size > self.limits.series_cache_bytes // 2:  # bodies have a bound of their own
            self.active.leave(self.table)
            self._renew()


class Tenants:
    """The states, made at a tenant's first push and forgotten after a time of silence."""

    def __init__(self, limits: TenantLimits, decodes: int = 1, shares: Shares | None = None) -> None:
        """`decodes`: bodies of one tenant that may be decoded at the same time."""
        self._limits = limits
        self._decodes = decodes
        self._shares = shares or MemoryShares(limits)
        self._states: dict[Tenant, TenantState] = {}

    def __len__(self) -> int:
        return len(self._states)

    def state(self, tenant: Tenant, now: float) -> TenantState:
        """The state of a tenant that is pushing now."""
        state = self._states.get(tenant)
        if state is None:
            state = self._states[tenant] = TenantState(tenant, self._limits, now, self._decodes, self._shares)
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
                self._shares.forget(tenant)
            elif state.lock.acquire(blocking=False):
                try:
                    state.active.give_back()
                finally:
                    state.lock.release()
