"""Which group is due for which organization, at which event time. Pure.

A group is evaluated on a grid of its interval, shifted by a hash so that organizations do not all fall due at once.
It waits until the organization's collectors have sent everything up to the time (the watermark), at most
`wait_ms`; a group that reads the clock does not wait, and skips times that passed while nobody evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

from alerts.rule import RuleGroup
from kernel.ids import OrganizationId
from metering.promql.api import CollectorProgress

MAX_CATCH_UP = 20  # evaluations of one group in one pass


@dataclass(frozen=True, slots=True)
class Due:
    organization: OrganizationId
    group: RuleGroup
    at_ms: int


def watermark_ms(progress: Iterable[CollectorProgress], now_ms: int, live_ms: int) -> int | None:
    """Complete through: the minimum over the collectors that sent something in the last `live_ms`.

    None when no live collector says how far it has come.
    """
    told = [
        found.complete_through_ms
        for found in progress
        if found.complete_through_ms is not None and found.received_ms > now_ms - live_ms
    ]
    return min(told, default=None)


@dataclass
class Timetable:
    """Remembers how far each group of each organization has been evaluated."""

    groups: tuple[RuleGroup, ...]
    wait_ms: int
    retention_ms: int
    evaluated: dict[tuple[OrganizationId, str], int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)

    def due(self, organization: OrganizationId, watermark: int | None, now_ms: int) -> Iterator[Due]:
        """The evaluations that can be done now, in order of time within each group."""
        for group in self.groups:
            yield from self._due(organization, group, watermark, now_ms)

    def _due(
        self, organization: OrganizationId, group: RuleGroup, watermark: int | None, now_ms: int
    ) -> Iterator[Due]:
        horizon = now_ms if group.reads_clock else max(now_ms - self.wait_ms, min(watermark or 0, now_ms))
        latest = align(horizon, organization, group)
        known = self.evaluated.get((organization, group.name))
        if known is None or group.reads_clock:
            first = latest
        else:
            # what the head can't answer any more is skipped, and counted
            earliest = now_ms - self.retention_ms + group.reach_ms
            first = max(known + group.interval_ms, align(earliest, organization, group))
        if known is not None and first > known + group.interval_ms:
            skipped = (first - known) // group.interval_ms - 1
            self.missed[group.name] = self.missed.get(group.name, 0) + skipped
        if known is not None and first <= known:
            return
        for turn in range(MAX_CATCH_UP):
            at_ms = first + turn * group.interval_ms
            if at_ms > latest:
                return
            self.evaluated[organization, group.name] = at_ms
            yield Due(organization, group, at_ms)


def align(moment_ms: int, organization: OrganizationId, group: RuleGroup) -> int:
    """The last time at or before `moment_ms` on the group's grid for that organization."""
    phase = crc32(f"{organization}/{group.name}".encode()) % group.interval_ms
    return moment_ms - (moment_ms - phase) % group.interval_ms
