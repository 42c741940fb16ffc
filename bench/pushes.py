"""Bodies for the gateway's benchmarks: one target's scrapes in each protocol, with the headers of their pushes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bench.exposition import Exposition
from bench.machine import note
from collector.exposition import RawSeries, parse_strictly, read_series
from collector.labels import METRIC_NAME, Labels, make_labels
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.frames import MEDIA_TYPE, EntryTable, StreamEncoder, Tick, join_blocks
from collector.wire.headers import (
    CONTENT_TYPE_RW1,
    CONTENT_TYPE_RW2,
    VERSION_HEADER,
    VERSION_RW1,
    VERSION_RW2,
)
from collector.wire.series import WireSeries
from collector.wire.snappy import compress

FRAMES = {"Content-Type": MEDIA_TYPE}
RW2 = {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "snappy", VERSION_HEADER: VERSION_RW2}
OTLP = {"Content-Type": "application/x-protobuf"}
METRICS_PATH = "/v1/metrics"
RW1 = {"Content-Type": CONTENT_TYPE_RW1, "Content-Encoding": "snappy", VERSION_HEADER: VERSION_RW1}


_TEXT = "text/plain; version=0.0.4"


@dataclass(frozen=True)
class Pushes:
    """Bodies of `samples` samples each. `first` are sent once, before the others, which may be sent in a circle."""

    name: str
    headers: dict[str, str]
    samples: int
    bodies: Sequence[bytes]
    first: Sequence[bytes] = ()
    path: str = "/api/v1/write"

    @property
    def bytes_per_sample(self) -> float:
        """Of the bodies that are sent in a circle."""
        return sum(map(len, self.bodies)) / len(self.bodies) / self.samples


@dataclass
class Scrapes:
    """Scrapes of a target of `series` series, whose values advance."""

    series: int
    count: int
    pages: list[list[tuple[Labels, float]]] = field(default_factory=list)
    start_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def __post_init__(self) -> None:
        note(f"making {self.count} scrapes of {self.series} series")
        exposition = Exposition(self.series, churn=0.0)
        labels: list[Labels] = []
        for _ in range(self.count):
            page = exposition.page()
            labels = labels or [_labels(raw) for raw in read_series(page, _TEXT)]  # the same on every page
            self.pages.append(list(zip(labels, parse_strictly(page, _TEXT).values, strict=True)))


def frames(scrapes: Scrapes) -> Pushes:
    """A body for each scrape, behind one with all series."""
    table = EntryTable()
    labels = [labels for labels, _ in scrapes.pages[0]]
    slots = table.take([_entry(one) for one in labels])
    where = {one: int(slot) for one, slot in zip(labels, slots, strict=True)}
    encoder = StreamEncoder(1, table, keyframe_every=10**6)
    none = np.empty(0, np.int32)
    bodies: list[list[bytes]] = []
    for number, page in enumerate(scrapes.pages):
        values = np.zeros(table.capacity)
        for one, value in page:
            values[where[one]] = value
        tick = Tick(scrapes.start_ms + 1000 * number, values, None, none, none, none if number else slots)
        blocks = encoder.encode(tick, 1)
        bodies.append([join_blocks(1, blocks)] if number else [join_blocks(1, [block]) for block in blocks])
    later = [body for scrape in bodies[1:] for body in scrape]
    return Pushes(f"frames of {scrapes.series:,}", FRAMES, scrapes.series, later, bodies[0])


def remote_write(
    scrapes: Scrapes, encode: Callable[[Sequence[WireSeries]], bytes], headers: dict[str, str], size: int
) -> Pushes:
    """Bodies of `size` series each."""
    bodies = [compress(encode(part)) for number in range(scrapes.count) for part in _cut(scrapes, number, size)]
    return Pushes(f"remote write {2 if headers is RW2 else 1}.0", headers, size, bodies, bodies)


def rw1(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """Remote write 1.0."""
    return remote_write(scrapes, encode_rw1, RW1, size)


def rw2(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """Remote write 2.0."""
    return remote_write(scrapes, encode_rw2, RW2, size)


def otlp(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """OTLP metrics, protobuf: a gauge for each metric name, its series the points."""
    bodies = [_export(part) for number in range(scrapes.count) for part in _cut(scrapes, number, size)]
    return Pushes("OTLP", OTLP, size, bodies, bodies, METRICS_PATH)


def _export(rows: Sequence[WireSeries]) -> bytes:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    gauges: dict[str, Any] = {}
    for row in rows:
        labels = dict(row.labels)
        name = labels.pop(METRIC_NAME)
        if name not in gauges:
            metric = scope.metrics.add(name=name)
            gauges[name] = metric.gauge
        ((at_ms, value),) = row.samples
        point = gauges[name].data_points.add(time_unix_nano=at_ms * 1_000_000, as_double=value)
        for key, text in labels.items():
            point.attributes.add(key=key).value.string_value = text
    encoded: bytes = request.SerializeToString()
    return encoded


def _cut(scrapes: Scrapes, number: int, size: int) -> Iterator[list[WireSeries]]:
    at_ms = scrapes.start_ms + 1000 * number
    rows = [WireSeries(labels, ((at_ms, value),)) for labels, value in scrapes.pages[number]]
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _labels(raw: RawSeries) -> Labels:
    return make_labels({**raw.labels, METRIC_NAME: raw.name, "job": "milvus"})


def _entry(labels: Labels) -> bytes:
    return b"\x02" + b"".join(f"{name}".encode() + b"\xff" + value.encode() + b"\xff" for name, value in labels)
