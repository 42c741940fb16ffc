"""Lake tables as a story of scrapes: who saw which component of which cluster at what level, and when."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kernel.ids import ClusterId, CollectorId, OrganizationId, ProjectId, Tenant
from metering.lake.runs import FileRuns
from metering.lake.scaled import to_scaled
from metering.lake.steady import steady_series
from metering.lake.stored_values import StoredValues
from metering.record import STALE_NAN_BITS, canonical_labels, series_id
from metering.usage.meter import LICENCE_METER, Component, GaugeMeter
from metering.usage.reading import GaugeReading, read_gauges

STALE = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]
TENANT = Tenant(OrganizationId("acme"), ProjectId("prod"))
TARGET = (("instance", "x:1"), ("job", "x"))
METRIC = "byoc_component_allocated_vcpu"


@dataclass(frozen=True)
class Row:
    """One sample in the lake."""

    at_ms: int
    value: float
    labels: tuple[tuple[str, str], ...]
    collector: str = "col-a"


def gauge(
    at_ms: int,
    value: float,
    *,
    component: str = "query",
    cluster: str = "orders",
    pod: str = "",
    collector: str = "col-a",
) -> Row:
    """A sample of allocated vCPU; another `pod` is another series of the same component."""
    labels = (("__name__", METRIC), ("cluster", cluster), ("component", component), *TARGET)
    return Row(at_ms, value, (*labels, ("pod", pod)) if pod else labels, collector)


def scrape(at_ms: int, *, ok: bool = True, collector: str = "col-a", job: str = "x") -> Row:
    """The `up` sample of a scrape."""
    labels = (("__name__", "up"), ("instance", "x:1"), ("job", job))
    return Row(at_ms, 1.0 if ok else 0.0, labels, collector)


def lake_table(rows: Iterable[Row]) -> pa.Table:
    """The rows in the columns of `Lake.scan`, in the order given."""
    listed = list(rows)
    encoded = [canonical_labels(row.labels) for row in listed]
    ids = [
        series_id(TENANT, CollectorId(row.collector), labels) for row, labels in zip(listed, encoded, strict=True)
    ]
    return pa.table(
        {
            "organization": pa.array([TENANT.organization for _ in listed], pa.string()),
            "project": pa.array([TENANT.project for _ in listed], pa.string()),
            "collector": pa.array([row.collector for row in listed], pa.string()),
            "labels": pa.array(encoded, pa.binary()),
            "series_id": pa.array(ids, pa.binary(16)),
            "timestamp_ms": pa.array([row.at_ms for row in listed], pa.int64()),
            "value": pa.array([row.value for row in listed], pa.float64()),
        }
    )


def reading(rows: Iterable[Row], limit_ms: int, files: int = 1, meter: GaugeMeter = LICENCE_METER) -> GaugeReading:
    """What the meter reads of the rows if they come in so many files, of which every other one holds doubles."""
    listed = list(rows)
    known = sorted({(row.collector, row.labels) for row in listed})
    encoded = [canonical_labels(labels) for _, labels in known]
    table = pa.table(
        {
            "project": pa.array([TENANT.project for _ in known], pa.string()),
            "collector": pa.array([collector for collector, _ in known], pa.string()),
            "labels": pa.array(encoded, pa.binary()),
        }
    )
    slots = {series: slot for slot, series in enumerate(known)}
    parts = [listed[number::files] for number in range(files)]
    runs = [_file(part, slots, number) for number, part in enumerate(parts)]
    return read_gauges(steady_series(table, runs, limit_ms), meter, limit_ms)


def _file(rows: list[Row], slots: dict[tuple[str, tuple[tuple[str, str], ...]], int], number: int) -> FileRuns:
    mine = np.array([slots[row.collector, row.labels] for row in rows], np.int64)
    starts = np.flatnonzero(np.append(True, mine[1:] != mine[:-1])[: len(mine)])
    counts = np.diff(np.append(starts, len(mine)))
    values = np.array([row.value for row in rows], np.float64)
    stored = StoredValues(values, np.empty(0, np.int64), np.empty(0, np.int8), None)
    if number % 2 == 0 and len(rows):
        scaled = to_scaled(values, counts)
        stored = StoredValues(
            None if scaled.is_exact is None else values,
            scaled.integers,
            np.repeat(scaled.scales, counts),
            scaled.is_exact,
        )
    return FileRuns(mine[starts], counts, np.array([row.at_ms for row in rows], np.int64), stored)


def component(name: str = "query", cluster: str = "orders") -> Component:
    return Component(TENANT.project, ClusterId(cluster), name)
