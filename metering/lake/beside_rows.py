"""What a record holds beside samples, and what is pending of it, by slot or by family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernel.ids import CollectorId, Tenant
from kernel.window import DAY_MS
from metering.samples import Metadata

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SEEN_AGAIN_MS = 6 * 3_600_000  # a family that stays as it is is told again so often
_MEMORY_BYTES = 32 * 1024 * 1024  # of all families together
_ROW_BYTES = 64


def _none() -> Integers:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class HistogramRows:
    """Native histograms: `messages[i]`, an `io.prometheus.write.v2.Histogram`, is of the series `slots[i]`."""

    slots: Integers = field(default_factory=_none)
    messages: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ExemplarRows:
    """Exemplars by column; `labels` are canonical and may be empty."""

    slots: Integers = field(default_factory=_none)
    timestamps_ms: Integers = field(default_factory=_none)
    values: Floats = field(default_factory=lambda: np.empty(0, np.float64))
    labels: tuple[bytes, ...] = ()

    def take(self, rows: Integers) -> ExemplarRows:
        labels = tuple(self.labels[row] for row in rows.tolist())
        return ExemplarRows(self.slots[rows], self.timestamps_ms[rows], self.values[rows], labels)


@dataclass(frozen=True, slots=True)
class StartRows:
    """When the counters behind series began, and the time of a sample that says so. Milliseconds UTC."""

    slots: Integers = field(default_factory=_none)
    starts_ms: Integers = field(default_factory=_none)
    seen_ms: Integers = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Beside:
    """All of one record. `dropped_exemplars`: those without a date, or of more days than a record may touch."""

    histograms: HistogramRows = field(default_factory=HistogramRows)
    exemplars: ExemplarRows = field(default_factory=ExemplarRows)
    starts: StartRows = field(default_factory=StartRows)
    metadata: Sequence[Metadata] = ()
    dropped_exemplars: int = 0


NOTHING = Beside()


class FamilyRow(NamedTuple):
    """What a source said of a family when."""

    tenant: Tenant
    collector: CollectorId
    told: Metadata
    seen_ms: int


@dataclass
class PendingBeside:
    """What was read since the last commit."""

    histograms: dict[Tenant, list[HistogramRows]] = field(default_factory=dict)
    exemplars: dict[Tenant, list[ExemplarRows]] = field(default_factory=dict)
    starts: dict[Tenant, list[StartRows]] = field(default_factory=dict)
    metadata: list[FamilyRow] = field(default_factory=list)
    dropped_exemplars: int = 0

    def add(
        self, found: Beside, memory: BesideMemory, tenant: Tenant, collector: CollectorId, received_ms: int
    ) -> int:
        """Keep what is new of a record; returns about how many bytes that takes."""
        size = 0
        if found.histograms.messages:
            self.histograms.setdefault(tenant, []).append(found.histograms)
            size += sum(_ROW_BYTES + len(message) for message in found.histograms.messages)
        if found.exemplars.labels:
            self.exemplars.setdefault(tenant, []).append(found.exemplars)
            size += sum(_ROW_BYTES + len(labels) for labels in found.exemplars.labels)
        starts = memory.starts.changed(found.starts)
        if len(starts.slots):
            self.starts.setdefault(tenant, []).append(starts)
            size += _ROW_BYTES * len(starts.slots)
        for told in found.metadata:
            if memory.families.is_news(tenant, collector, told, received_ms):
                self.metadata.append(FamilyRow(tenant, collector, told, received_ms))
                size += _size(told)
        self.dropped_exemplars += found.dropped_exemplars
        return size

    def slots(self) -> list[Integers]:
        """The slots that histograms and exemplars refer to."""
        listed = [part.slots for parts in self.histograms.values() for part in parts]
        return listed + [part.slots for parts in self.exemplars.values() for part in parts]


class BesideMemory:
    """What need not be written again. To be forgotten with what was pending, or with the slots."""

    def __init__(self) -> None:
        self.starts = StartMemory()
        self.families = FamilyMemory()


class StartMemory:
    """The latest start of each slot, and the earliest sample that told of it."""

    def __init__(self) -> None:
        self._start = _none()
        self._seen = _none()

    def changed(self, rows: StartRows) -> StartRows:
        """The rows that say something new, each (slot, start) once with the earliest time.

        A start that lies after its own sample, or is none, is left out.
        """
        slots, starts, seen = rows.slots, rows.starts_ms, rows.seen_ms
        if not len(slots):
            return rows
        self._grow(int(slots.max()) + 1)
        known = self._start[slots]
        new = np.flatnonzero((starts > 0) & (starts <= seen) & ((starts != known) | (seen < self._seen[slots])))
        order = new[np.lexsort((seen[new], starts[new], slots[new]))]
        slots, starts, seen = slots[order], starts[order], seen[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (slots[1:] != slots[:-1]) | (starts[1:] != starts[:-1])
        slots, starts, seen = slots[first], starts[first], seen[first]
        later = starts >= self._start[slots]  # ascending: of a slot's starts the latest stays
        self._start[slots[later]], self._seen[slots[later]] = starts[later], seen[later]
        return StartRows(slots, starts, seen)

    def _grow(self, count: int) -> None:
        missing = max(count, 2 * len(self._start)) - len(self._start)
        if count > len(self._start):
            self._start = np.concatenate([self._start, np.zeros(missing, np.int64)])
            self._seen = np.concatenate([self._seen, np.zeros(missing, np.int64)])


class FamilyMemory:
    """What sources last said of families, and when it was written."""

    def __init__(self, most_bytes: int = _MEMORY_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._told: dict[tuple[Tenant, CollectorId, str], tuple[Metadata, int]] = {}

    def is_news(self, tenant: Tenant, collector: CollectorId, told: Metadata, seen_ms: int) -> bool:
        """Whether this is to be written; then it is known."""
        key = tenant, collector, told.family
        known = self._told.get(key)
        if known is not None and known[0] == told and seen_ms < known[1] + _SEEN_AGAIN_MS:
            return False
        self._bytes += _size(told) if known is None else _size(told) - _size(known[0])
        if self._bytes > self._most_bytes:  # a tenant chooses these texts
            self._told.clear()
            self._bytes = _size(told)
        self._told[key] = told, seen_ms
        return True


def _size(told: Metadata) -> int:
    return 4 * _ROW_BYTES + len(told.family) + len(told.type) + len(told.unit) + len(told.help)


def keep_dated(rows: ExemplarRows, last_ms: int, days_allowed: int) -> tuple[ExemplarRows, int]:
    """The exemplars that have a date, and how many were dropped; all, if they are of more days than allowed.

    An exemplar is no sample: what is wrong with it must not cost the samples beside it.
    """
    times = rows.timestamps_ms
    kept = np.flatnonzero((times >= 0) & (times < last_ms))
    if len(np.unique(times[kept] // DAY_MS)) > days_allowed:
        kept = kept[:0]
    return (rows if len(kept) == len(times) else rows.take(kept)), len(times) - len(kept)
