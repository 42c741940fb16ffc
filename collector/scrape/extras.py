"""What a scrape has beside numbers: native histograms, exemplars and starts, as frames carry them."""

from __future__ import annotations

import numpy as np

from collector.exposition import Reading
from collector.labels import make_labels
from collector.policy import Policy
from collector.scrape.plan import LanePlan
from collector.scrape.times import MAX_AHEAD_MS, is_in_time
from collector.wire.frames import ExemplarRow, FrameLimits, HistogramRow, Starts
from collector.wire.varint import varint

_LIMITS = FrameLimits()  # of those who read what leaves
_TIMESTAMP = (
    b"\x78"  # io.prometheus.write.v2.Histogram.timestamp = 15; of a field that is there twice the last holds
)


def histogram_rows(ours: LanePlan, reading: Reading, at_ms: int) -> tuple[list[HistogramRow], int]:
    """The native histograms of a lane, and how many are too long for a frame and so not among them.

    Those without a time of their own get that of the scrape. Those that are out of time are not there either.
    """
    slots = {**_slots(ours.numbered_rows().tolist(), ours.slots.tolist(), reading.histograms)}
    dated = _slots(ours.dated_rows.tolist(), ours.dated_slots.tolist(), reading.histograms)
    slots |= {row: slot for row, slot in dated.items() if is_in_time(reading.timestamps[row], at_ms)}
    found = []
    for row, slot in slots.items():
        when = reading.timestamps[row] if row in dated else at_ms
        message = reading.histograms[row] + _TIMESTAMP + varint(when)
        if len(message) <= _LIMITS.max_histogram_bytes:
            found.append(HistogramRow(slot, message))
    return found, len(slots) - len(found)


def exemplar_rows(ours: LanePlan, reading: Reading, at_ms: int, policy: Policy) -> list[ExemplarRow]:
    """The exemplars of a lane that may leave; those without a time of their own get that of the scrape.

    They lead to a trace and are no samples: those that are out of time or too long for a frame are left out.
    """
    slots = _slots(ours.numbered_rows().tolist(), ours.slots.tolist(), reading.exemplars)
    slots |= _slots(ours.dated_rows.tolist(), ours.dated_slots.tolist(), reading.exemplars)
    found = []
    for row, slot in slots.items():
        for one in reading.exemplars[row]:
            when = at_ms if one.timestamp_ms is None else one.timestamp_ms
            labels = policy.exemplar(one.labels) if is_in_time(when, at_ms) else None
            if labels is None or len(labels) > _LIMITS.max_labels:
                continue
            canonical = _canonical(labels)
            if len(canonical) <= _LIMITS.max_entry_bytes:
                found.append(ExemplarRow(slot, one.value, when, canonical))
    return found


def start_rows(ours: LanePlan, reading: Reading, at_ms: int) -> Starts:
    """When the counters of a lane began, where the target said it: of series that leave anyway, and no other."""
    by_row = np.zeros(len(reading), np.int64)
    created = {row: when for row, when in reading.created.items() if 0 < when <= at_ms + MAX_AHEAD_MS}
    by_row[list(created)] = list(created.values())
    rows, slots = (
        np.concatenate([ours.numbered_rows(), ours.dated_rows]),
        np.concatenate([ours.slots, ours.dated_slots]),
    )
    begun = by_row[rows] > 0
    distinct, first = np.unique(slots[begun], return_index=True)
    return Starts(distinct, by_row[rows[begun][first]])


def _slots(rows: list[int], slots: list[int], wanted: object) -> dict[int, int]:
    return {row: slot for row, slot in zip(rows, slots, strict=True) if row in wanted}  # type: ignore[operator]


def _canonical(labels: object) -> bytes:
    return b"".join(
        b"%b\xff%b\xff" % (name.encode(), value.encode())
        for name, value in make_labels(labels)  # type: ignore[arg-type]
    )
