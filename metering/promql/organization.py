"""The head of one organization: label index and rings. It never sees another organization's samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, OrganizationId
from metering.promql.limits import HeadLimits, Reason
from metering.promql.numbering import UNRESOLVED, SeriesNumbers
from metering.promql.rings import Rings
from metering.promql.syntax import LOOKBACK_MS, Matcher, RangeSelector, Selector
from metering.promql.vector import METRIC_NAME, EvaluationError, Floats, Integers, LabelTable, Vector, Windows
from metering.record import STALE_NAN_BITS, LabelSet, SampleBatch, parse_canonical_labels

MAX_SELECTIONS = 512
MAX_WINDOW_SAMPLES = 50_000_000  # of one selector at one time, as Prometheus' --query.max-samples
LABEL_BYTES = 3  # of memory for each byte of labels: canonical form, parsed form, index
SERIES_BYTES = 400


@dataclass(frozen=True, slots=True)
class _Selection:
    version: int
    table: LabelTable
    series: Integers


class OrganizationHead:
    """Recent samples of one organization; a `SeriesSource`.

    Series are told apart by their labels. When two collectors send one series, the first keeps it until it has
    been silent for `takeover_ms`: interleaved counters would look like resets.
    """

    def __init__(
        self,
        organization: OrganizationId,
        limits: HeadLimits,
        metrics: frozenset[str] | None,
        reserved: tuple[str, ...],
        refused: Counter[Reason],
    ) -> None:
        self.organization = organization
        self._limits = limits
        self._metrics = metrics
        self._refused = refused
        self._reserved = reserved
        self._rings = Rings(limits, refused)
        self._numbers = SeriesNumbers()
        self._by_canonical: dict[bytes, int] = {}
        self._labels: dict[int, tuple[bytes, LabelSet]] = {}
        self._by_metric: dict[str, dict[int, None]] = {}
        self._reserved_slots: set[int] = set()
        self._versions: dict[str, int] = {}
        self._version = 0
        self._selections: dict[tuple[Matcher, ...], _Selection] = {}
        self._collectors: dict[CollectorId, int] = {}

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def allocated_bytes(self) -> int:
        return self._rings.allocated_bytes

    # Taking samples in

    def ingest(
        self, batch: SampleBatch, collector: CollectorId, received_ms: int, forbidden: tuple[str, ...] = ()
    ) -> int:
        """Take a batch in; `forbidden` are the prefixes of metric names that this sender may not use.

        Samples that are not newer than the newest of their series are dropped, so that reading a record again
        changes nothing. Returns how many samples were kept.
        """
        slots = np.array([self._slot(canonical, forbidden) for canonical in batch.series], np.int64)
        series = slots[batch.series_index] if len(slots) else np.empty(0, np.int64)
        return self._append(series, batch.timestamps_ms, batch.values, collector, received_ms)

    def number(self, series: Sequence[bytes], forbidden: tuple[str, ...] = ()) -> Integers:
        """Numbers for series of frames, to give to `ingest_numbered` and, in the end, to `release`."""
        return self._numbers.take([canonical if self._keeps(canonical, forbidden) else b"" for canonical in series])

    def release(self, numbers: Integers) -> None:
        """Numbers that a reader of frames will not use again; each as often as it was given."""
        self._numbers.release(numbers)

    def recycle(self) -> None:
        """No rows are under way: numbers without users may name other series."""
        self._numbers.recycle()

    def ingest_numbered(
        self, series: Integers, times_ms: Integers, values: Floats, collector: CollectorId, received_ms: int
    ) -> int:
        """As `ingest`, for series that have a number: no work for each series, unless it is new to the head."""
        slots = self._numbers.slots[series]
        unresolved = np.flatnonzero(slots == UNRESOLVED)
        if len(unresolved):
            for number in np.unique(series[unresolved]).tolist():
                canonical = self._numbers.labels(number)
                known = self._by_canonical.get(canonical)
                slot = self._create(canonical, _metric_of(canonical)) if known is None else known
                if slot >= 0:  # else asked again with its next sample, as a limit may have made room
                    self._numbers.slots[number] = slot
            slots = self._numbers.slots[series]
        return self._append(slots, times_ms, values, collector, received_ms)

    def _keeps(self, canonical: bytes, forbidden: tuple[str, ...]) -> bool:
        metric = _metric_of(canonical)
        if forbidden and metric.startswith(forbidden):
            self._refuse(Reason.RESERVED)
            return False
        return self._metrics is None or metric in self._metrics

    def _append(
        self, series: Integers, times: Integers, values: Floats, collector: CollectorId, received_ms: int
    ) -> int:
        wanted = series >= 0
        ahead = times > received_ms + self._limits.future_ms
        behind = times <= received_ms - self._limits.retention_ms
        self._refused[Reason.FUTURE] += int((wanted & ahead).sum())
        self._refused[Reason.TOO_OLD] += int((wanted & behind).sum())
        taken = np.flatnonzero(wanted & ~ahead & ~behind)
        owner = self._collectors.setdefault(collector, len(self._collectors))
        return self._rings.append(series[taken], times[taken], values[taken], owner)

    def _slot(self, canonical: bytes, forbidden: tuple[str, ...]) -> int:
        slot = self._by_canonical.get(canonical)
        if slot is not None and slot not in self._reserved_slots:
            return slot
        metric = _metric_of(canonical)
        if forbidden and metric.startswith(forbidden):
            return self._refuse(Reason.RESERVED)
        if slot is not None:
            return slot
        if self._metrics is not None and metric not in self._metrics:
            return -1
        return self._create(canonical, metric)

    def _create(self, canonical: bytes, metric: str) -> int:
        if len(self._labels) >= self._limits.series:
            return self._refuse(Reason.SERIES_LIMIT)
        try:
            labels = parse_canonical_labels(canonical)
        except DeadLetter:
            return self._refuse(Reason.MALFORMED)
        if dict(labels).get("organization", self.organization) != self.organization:
            return self._refuse(Reason.FOREIGN_LABEL)
        slot = self._rings.open(_label_bytes(canonical))
        if slot < 0:
            return self._refuse(Reason.BYTES_LIMIT)
        self._by_canonical[canonical] = slot
        self._labels[slot] = (canonical, labels)
        self._by_metric.setdefault(metric, {})[slot] = None
        if metric.startswith(self._reserved):
            self._reserved_slots.add(slot)
        self._touch(metric)
        return slot

    def _touch(self, metric: str) -> None:
        """Selections of that metric are out of date."""
        self._version += 1
        if metric in self._by_metric:
            self._versions[metric] = self._version
        else:
            self._versions.pop(metric, None)

    def _refuse(self, reason: Reason) -> int:
        self._refused[reason] += 1
        return -1

    def expire(self, now_ms: int) -> None:
        """Drop series whose newest sample is older than the retention."""
        for slot in self._rings.silent_since(now_ms - self._limits.retention_ms).tolist():
            canonical, labels = self._labels.pop(slot)
            del self._by_canonical[canonical]
            self._numbers.forget_slot(canonical)
            metric = dict(labels).get(METRIC_NAME, "")
            slots = self._by_metric[metric]
            del slots[slot]
            if not slots:
                del self._by_metric[metric]
            self._reserved_slots.discard(slot)
            self._touch(metric)
            self._rings.close(slot, _label_bytes(canonical))

    # Reading

    def _select(self, selector: Selector) -> _Selection:
        metric = selector.metric
        version = self._version if metric is None else self._versions.get(metric, 0)
        known = self._selections.get(selector.matchers)
        if known is not None and known.version == version:
            return known
        if metric is None:
            candidates = list(self._labels)
        else:
            candidates = list(self._by_metric.get(metric, ()))
        rest = [matcher for matcher in selector.matchers if metric is None or matcher.name != METRIC_NAME]
        slots = [slot for slot in candidates if _matches(self._labels[slot][1], rest)]
        table = LabelTable([self._labels[slot][1] for slot in slots])
        if len(self._selections) >= MAX_SELECTIONS:
            self._selections.clear()
        selection = self._selections[selector.matchers] = _Selection(version, table, np.array(slots, np.int64))
        return selection

    def instant(self, selector: Selector, at_ms: int) -> Vector:
        """The newest sample of each series in `(at - lookback, at]`, without series whose newest is stale."""
        selection = self._select(selector)
        times, values = self._rings.newest(selection.series, at_ms)
        found = (times > at_ms - LOOKBACK_MS) & (values.view(np.uint64) != STALE_NAN_BITS)
        rows = np.flatnonzero(found)
        return Vector(selection.table, rows, values[rows])

    def windows(self, selector: RangeSelector, at_ms: int) -> Windows:
        """The samples in `(at - range, at]` of each series. Raises EvaluationError when they are too many."""
        selection = self._select(selector.selector)
        start_ms = at_ms - selector.range_ms
        first, counts = self._rings.bounds(selection.series, start_ms, at_ms)
        longest = int(counts.max(initial=0))
        if longest * len(counts) > MAX_WINDOW_SAMPLES:
            raise EvaluationError(
                f"the range selector would load {longest * len(counts)} samples, more than {MAX_WINDOW_SAMPLES}; "
                "narrow it with label matchers or a shorter range"
            )
        values = self._rings.window(selection.series, first, longest)
        inside = np.arange(longest) < counts[:, None]
        stale = inside & (values.view(np.uint64) == STALE_NAN_BITS)
        leading, last = np.zeros(len(counts), np.int64), np.maximum(counts - 1, 0)
        if stale.any():
            kept = inside & ~stale
            leading, last = kept.argmax(axis=1), longest - 1 - kept[:, ::-1].argmax(axis=1)
            values = np.take_along_axis(values, np.argsort(~kept, axis=1, kind="stable"), 1)
            counts = kept.sum(axis=1)
        return Windows(
            selection.table,
            np.arange(len(counts)),
            self._rings.times_at(selection.series, first + leading),
            self._rings.times_at(selection.series, first + last),
            values,
            counts,
            start_ms=start_ms,
            end_ms=at_ms,
        )


def _label_bytes(canonical: bytes) -> int:
    return SERIES_BYTES + LABEL_BYTES * len(canonical)


def _metric_of(canonical: bytes) -> str:
    """The metric name inside canonical labels, without parsing the rest."""
    # Names stand in even places. Searching for the name's bytes would also find a label's *value* "__name__".
    parts = canonical.split(b"\xff")
    names = parts[:-1:2]
    if b"__name__" not in names:
        return ""
    return parts[2 * names.index(b"__name__") + 1].decode("utf-8", "replace")


def _matches(labels: LabelSet, matchers: list[Matcher]) -> bool:
    values = dict(labels)
    return all(matcher.matches(values.get(matcher.name, "")) for matcher in matchers)
