"""What a scrape has beside numbers: native histograms, exemplars and starts, as frames carry them."""

from __future__ import annotations

import numpy as np

from collector.exposition import Reading
from collector.labels import make_labels
from collector.policy import Policy
from collector.scrape.plan import LanePlan
from collector.wire.frames import ExemplarRow, HistogramRow, Starts
from collector.wire.varint import varint

_TIMESTAMP = (
    b"\x78"  # io.prometheus.write.v2.Histogram.timestamp = 15; of a field that is there twice the last holds
)


def histogram_rows(ours: LanePlan, reading: Reading, at_ms: int) -> list[HistogramRow]:
    """The native histograms of a lane; those without a time of their own get that of the scrape."""
    slots = {**_slots(ours.rows.tolist(), ours.slots.tolist(), reading.histograms)}
    slots |= _slots(ours.dated_rows.tolist(), ours.dated_slots.tolist(), reading.histograms)
    return [
        HistogramRow(slot, reading.histograms[row] + _TIMESTAMP + varint(reading.timestamps.get(row, at_ms)))
        for row, slot in slots.items()
    ]


def exemplar_rows(ours: LanePlan, reading: Reading, at_ms: int, policy: Policy) -> list[ExemplarRow]:
    """The exemplars of a lane that may leave; those without a time of their own get that of the scrape."""
    slots = _slots(ours.rows.tolist(), ours.slots.tolist(), reading.exemplars)
    slots |= _slots(ours.dated_rows.tolist(), ours.dated_slots.tolist(), reading.exemplars)
    found = []
    for row, slot in slots.items():
        for one in reading.exemplars[row]:
            labels = policy.exemplar(one.labels)
            if labels is not None:
                when = at_ms if one.timestamp_ms is None else one.timestamp_ms
                found.append(ExemplarRow(slot, one.value, when, _canonical(labels)))
    return found


def start_rows(ours: LanePlan, reading: Reading) -> Starts:
    """When the counters of a lane began, where the target said it: of series that leave anyway, and no other."""
    by_row = np.zeros(len(reading), np.int64)
    by_row[list(reading.created)] = list(reading.created.values())
    rows, slots = (
        np.concatenate([ours.rows, ours.dated_rows]),
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
