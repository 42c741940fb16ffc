"""Exponential histograms of OTLP as native histograms of Prometheus.

Sources: OpenTelemetry specification, "Exponential Histograms"; prometheus/prometheus, storage/remote/otlptranslator
(histograms.go). Both have buckets of the base 2^(2^-scale); OTLP names one by its lower bound, Prometheus by its
upper one, so an index is one more here.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable

from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from collector.wire.varint import length_delimited, varint
from metering.record import STALE_NAN_BITS

_LEAST_SCALE, _MOST_SCALE = -4, 8
_ZERO_THRESHOLD = 1e-128  # what Prometheus takes where the sender says nothing
_LARGEST_GAP = 2  # buckets of nothing that are spelt out rather than begin a span
_NO_RECORDED_VALUE = 1
_MOST_BUCKETS = 10_000


class NotConvertible(Exception):
    """A histogram that has no counterpart; says why."""


def native_histogram(point: ExponentialHistogramDataPoint) -> bytes:
    """The `io.prometheus.write.v2.Histogram`. Raises NotConvertible."""
    if point.scale < _LEAST_SCALE:
        raise NotConvertible(f"an exponential histogram of the scale {point.scale}; the least is {_LEAST_SCALE}")
    shift = max(0, point.scale - _MOST_SCALE)
    positive = _buckets(point.positive.offset, point.positive.bucket_counts, shift)
    negative = _buckets(point.negative.offset, point.negative.bucket_counts, shift)
    if sum(positive.values()) + sum(negative.values()) + point.zero_count > point.count:
        raise NotConvertible(f"an exponential histogram of {point.count} observations with more in its buckets")
    count, total = point.count, struct.pack("<d", point.sum)
    if point.flags & _NO_RECORDED_VALUE:
        count, total, positive, negative = STALE_NAN_BITS, struct.pack("<Q", STALE_NAN_BITS), {}, {}
    threshold = point.zero_threshold if point.zero_threshold > 0 else _ZERO_THRESHOLD
    parts = [
        b"\x08" + varint(count),
        b"\x19" + total,
        b"\x20" + varint(_zigzag(point.scale - shift)),
        b"\x29" + struct.pack("<d", threshold),
        b"\x30" + varint(point.zero_count),
        *_side(b"\x42", b"\x4a", negative),
        *_side(b"\x5a", b"\x62", positive),
        b"\x78" + varint(point.time_unix_nano // 1_000_000),
    ]
    if point.start_time_unix_nano:
        parts.append(b"\x88\x01" + varint(point.start_time_unix_nano // 1_000_000))
    return b"".join(parts)


def _buckets(offset: int, counts: Iterable[int], shift: int) -> dict[int, int]:
    """Counts by Prometheus' index, in its order, those of nothing left out."""
    merged: defaultdict[int, int] = defaultdict(int)
    for index, count in enumerate(counts, offset):
        if count:
            merged[(index >> shift) + 1] += count
        if len(merged) > _MOST_BUCKETS:
            raise NotConvertible(f"an exponential histogram of over {_MOST_BUCKETS} buckets")
    return dict(merged)


def _side(span_tag: bytes, delta_tag: bytes, buckets: dict[int, int]) -> list[bytes]:
    """The spans and the deltas of one side, as fields."""
    spans: list[list[int]] = []  # offset, length
    counts: list[int] = []
    last = 0
    for index, count in buckets.items():
        gap = index - last
        if spans and gap <= _LARGEST_GAP:
            counts += [0] * gap
            spans[-1][1] += gap + 1
        else:
            spans.append([gap, 1])
        counts.append(count)
        last = index + 1
    if not counts:
        return []
    deltas = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
    fields = [
        length_delimited(span_tag, b"\x08" + varint(_zigzag(offset)) + b"\x10" + varint(length))
        for offset, length in spans
    ]
    return [*fields, length_delimited(delta_tag, b"".join(varint(_zigzag(delta)) for delta in deltas))]


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
