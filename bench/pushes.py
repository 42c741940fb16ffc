"""Bodies for the gateway's benchmarks: one target's scrapes in each protocol, with the headers of their pushes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bench.exposition import MOVING_SHARE, Exposition
from bench.machine import note
from collector.exposition import RawSeries, parse_strictly, read_series
from collector.labels import METRIC_NAME, Labels, make_labels
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.frames import MAX_BODY_BYTES, MEDIA_TYPE, Block, EntryTable, StreamEncoder, Tick, join_blocks
from collector.wire.headers import (
    CONTENT_TYPE_RW1,
    CONTENT_TYPE_RW2,
    VERSION_HEADER,
    VERSION_RW1,
    VERSION_RW2,
)
from collector.wire.series import WireSeries
from collector.wire.snappy import compress
from collector.wire.varint import varint

FRAMES = {"Content-Type": MEDIA_TYPE}
RW2 = {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "snappy", VERSION_HEADER: VERSION_RW2}
OTLP = {"Content-Type": "application/x-protobuf"}
METRICS_PATH = "/v1/metrics"
RW1 = {"Content-Type": CONTENT_TYPE_RW1, "Content-Encoding": "snappy", VERSION_HEADER: VERSION_RW1}


_TEXT = "text/plain; version=0.0.4"
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pushes:
    """Bodies of `samples` samples together, no two alike. `first` are sent before them: all series, once."""

    name: str
    headers: dict[str, str]
    samples: int
    bodies: Sequence[bytes]
    first: Sequence[bytes] = ()
    path: str = "/api/v1/write"

    @property
    def bytes_per_sample(self) -> float:
        """Of the bodies after the first."""
        return sum(map(len, self.bodies)) / self.samples


@dataclass
class Scrapes:
    """Scrapes of a target of `series` series, of which 48 % advance between two: `labels[i]` has `values[n][i]`.

    One each second, the last one now: a gateway takes no times that are far ahead of its clock.
    """

    series: int
    count: int
    start_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.start_ms = time.time_ns() // 1_000_000 - 1000 * self.count
        note(f"making {self.count} scrapes of {self.series} series")
        page = Exposition(self.series, churn=0.0).page()
        self.labels: list[Labels] = [_labels(raw) for raw in read_series(page, _TEXT)]
        self._page = np.asarray(parse_strictly(page, _TEXT).values)

    def values(self) -> Iterator[Values]:
        """Scrape by scrape, the same again at each call."""
        dice, values = np.random.default_rng(7), self._page
        for _ in range(self.count):
            yield values
            moving = dice.random(self.series) < MOVING_SHARE
            values = values + moving * dice.integers(1, 41, self.series)

    def at_ms(self, number: int) -> int:
        return self.start_ms + 1000 * number


def frames(scrapes: Scrapes) -> Pushes:
    """The blocks of each scrape, in bodies as the collector makes them, behind one scrape with all series."""
    table = EntryTable()
    slots = table.take([_entry(one) for one in scrapes.labels])
    encoder = StreamEncoder(1, table, keyframe_every=10**6)
    none = np.empty(0, np.int32)
    first: list[bytes] = []
    later: list[bytes] = []
    for number, page in enumerate(scrapes.values()):
        values = np.zeros(table.capacity)
        values[slots] = page
        blocks = encoder.encode(Tick(scrapes.at_ms(number), values, None, none, none, none if number else slots), 1)
        (later if number else first).extend(frame_bodies(1, blocks))
    samples = scrapes.series * (scrapes.count - 1)
    return Pushes(f"frames of {scrapes.series:,}", FRAMES, samples, later, first)


def frame_bodies(group: int, blocks: Sequence[Block]) -> Iterator[bytes]:
    """As many blocks in a body as it may hold."""
    taken: list[Block] = []
    size = 0
    for block in blocks:
        if taken and size + len(block.content) > MAX_BODY_BYTES - 1000:
            yield join_blocks(group, taken)
            taken, size = [], 0
        taken.append(block)
        size += len(block.content)
    yield join_blocks(group, taken)


@dataclass(frozen=True)
class _Layout:
    """A protocol that keeps a value and its time in fixed places. `time_at` is counted from the value."""

    name: str
    headers: dict[str, str]
    encode: Callable[[Sequence[WireSeries]], bytes]
    time_at: int
    time_bytes: Callable[[int], bytes]
    path: str = "/api/v1/write"


class _Template:
    """One body, encoded once: another scrape of the same series differs in eight bytes a sample, and the time."""

    def __init__(self, layout: _Layout, labels: Sequence[Labels], at_ms: int) -> None:
        marks = np.arange(len(labels)) + 0.123456789
        rows = [WireSeries(one, ((at_ms, mark),)) for one, mark in zip(labels, marks.tolist(), strict=True)]
        content = layout.encode(rows)
        self._layout, self._content = layout, np.frombuffer(content, np.uint8)
        where, at = [], 0
        for mark in marks:  # a page has its series by name, so OTLP keeps their order too
            at = content.index(mark.tobytes(), at)
            where.append(at)
        self._where = np.asarray(where)[:, None]

    def body(self, at_ms: int, values: Values) -> bytes:
        content = self._content.copy()
        content[self._where + np.arange(8)] = values.view(np.uint8).reshape(-1, 8)
        written = np.frombuffer(self._layout.time_bytes(at_ms), np.uint8)
        content[self._where + self._layout.time_at + np.arange(len(written))] = written
        return compress(content.tobytes()) if self._layout.path != METRICS_PATH else content.tobytes()


def _remote_write(scrapes: Scrapes, layout: _Layout, size: int) -> Pushes:
    """Bodies of `size` series each."""
    starts = range(0, scrapes.series, size)
    parts = [_Template(layout, scrapes.labels[start : start + size], scrapes.start_ms) for start in starts]
    scraped = [
        [
            part.body(scrapes.at_ms(number), values[start : start + size])
            for start, part in zip(starts, parts, strict=True)
        ]
        for number, values in enumerate(scrapes.values())
    ]
    bodies = [body for scrape in scraped[1:] for body in scrape]
    samples = scrapes.series * (scrapes.count - 1)
    return Pushes(layout.name, layout.headers, samples, bodies, scraped[0], layout.path)


def rw1(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """Remote write 1.0."""
    return _remote_write(scrapes, _Layout("remote write 1.0", RW1, encode_rw1, 9, varint), size)


def rw2(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """Remote write 2.0; each part of a scrape has the same symbols at every scrape."""
    return _remote_write(scrapes, _Layout("remote write 2.0", RW2, encode_rw2, 9, varint), size)


def fresh_rw2(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """Remote write 2.0 of series in another order at each request, so that no table of symbols comes twice."""
    dice = random.Random(7)
    scraped = []
    for number, values in enumerate(scrapes.values()):
        numbers = list(values.tolist())
        order = list(range(scrapes.series))
        dice.shuffle(order)
        rows = [WireSeries(scrapes.labels[at], ((scrapes.at_ms(number), numbers[at]),)) for at in order]
        scraped.append([compress(encode_rw2(rows[start : start + size])) for start in range(0, len(rows), size)])
    bodies = [body for scrape in scraped[1:] for body in scrape]
    samples = scrapes.series * (scrapes.count - 1)
    return Pushes("remote write 2.0, fresh symbols", RW2, samples, bodies, scraped[0])


def otlp(scrapes: Scrapes, size: int = 10_000) -> Pushes:
    """OTLP metrics, protobuf: a gauge for each metric name, its series the points."""
    layout = _Layout("OTLP", OTLP, _export, -9, lambda at_ms: pack("<Q", at_ms * 1_000_000), METRICS_PATH)
    return _remote_write(scrapes, layout, size)


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


def _labels(raw: RawSeries) -> Labels:
    return make_labels({**raw.labels, METRIC_NAME: raw.name, "job": "milvus"})


def _entry(labels: Labels) -> bytes:
    return b"\x02" + b"".join(f"{name}".encode() + b"\xff" + value.encode() + b"\xff" for name, value in labels)
