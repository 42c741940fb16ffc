"""A simulated month of history, clearly marked as such: the only figures of the demo that no server produced.

It travels through the same collector and gateway, in the history lane. The profile is a fixed rule of the date, so
that anyone can compute the invoice by hand: two clusters, one of them grown over the licence in working hours.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel.window import HOUR_MS, Window

METRIC = "byoc_component_allocated_vcpu"
STEP_MS = 240_000  # a sample every four minutes; a sample holds for five
INSTANCE = "simulated-history"
STEADY_CLUSTER = "history-steady"
BURST_CLUSTER = "history-burst"
STEADY_VCPU = {"query": "4", "milvus": "1.5", "index": "0.5", "dependency": "2"}
QUIET_VCPU = {"query": "4", "milvus": "1.5", "index": "0.5", "dependency": "2"}
BURST_VCPU = {"query": "10", "milvus": "2.5", "index": "1.5", "dependency": "2"}
BURST_HOURS = range(9, 17)
OUTAGE_DAY = 12
OUTAGE_HOURS = range(3, 6)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file."""

    timestamp_ms: int
    metric: str
    value: str
    cluster: str
    component: str


def rows(month: Window) -> Iterator[Row]:
    """Every sample of the month, in order of time. On one day the collector is silent for three hours."""
    for at_ms in range(month.start_ms, month.end_ms, STEP_MS):
        day = (at_ms - month.start_ms) // (24 * HOUR_MS) + 1
        hour = at_ms // HOUR_MS % 24
        if day == OUTAGE_DAY and hour in OUTAGE_HOURS:
            continue
        yield Row(at_ms, "up", "1", "", "")
        burst = BURST_VCPU if is_burst(at_ms) else QUIET_VCPU
        for cluster, profile in ((STEADY_CLUSTER, STEADY_VCPU), (BURST_CLUSTER, burst)):
            for component, vcpu in profile.items():
                yield Row(at_ms, METRIC, vcpu, cluster, component)


def is_burst(at_ms: int) -> bool:
    """Monday to Friday, 09:00 to 17:00 UTC. 1970-01-01 was a Thursday."""
    weekday = (at_ms // (24 * HOUR_MS) + 3) % 7
    return weekday < 5 and at_ms // HOUR_MS % 24 in BURST_HOURS


def write_history(month: Window, path: Path) -> int:
    """Write the file that `byoc collector backfill` takes; returns the number of samples."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp_ms", "metric", "value", "job", "instance", "cluster", "component"])
        for row in rows(month):
            job = (row.timestamp_ms, row.metric, row.value, "byoc", INSTANCE, row.cluster, row.component)
            writer.writerow(job)
            count += 1
    return count
