"""Histograms of protobuf exposition: classic buckets, native ones, and the messages of remote write 2.0 for them.

    Histogram  sample_count = 1; sample_sum = 2; bucket = 3; sample_count_float = 4; schema = 5; zero_threshold = 6;
               zero_count = 7; zero_count_float = 8; negative_span = 9; negative_delta = 10; negative_count = 11;
               positive_span = 12; positive_delta = 13; positive_count = 14; created_timestamp = 15; exemplars = 16
    Bucket     cumulative_count = 1; upper_bound = 2; exemplar = 3; cumulative_count_float = 4
    Exemplar   label = 1; value = 2; timestamp = 3 {seconds = 1; nanos = 2}

Spans and deltas have the same bytes in both messages, so they are copied under other field numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from collector.exposition.columns import RawExemplar
from collector.exposition.protobuf_keys import read_pairs
from collector.wire.protobuf import check_within, read_int64, read_span, read_varint, skip_field
from collector.wire.varint import length_delimited, varint

FAR_MS = 2**62  # what a target says to be further off is no time, and would fit into no message
_DOUBLE = Struct("<d")
_GAUGE_HINT = b"\x70\x03"
# How a repeated field of the client's message becomes one of remote write's.
_SPANS = {0x4A: b"\x42", 0x62: b"\x5a"}  # negative_span, positive_span
_DELTAS = {0x50: 0x4A, 0x52: 0x4A, 0x68: 0x62, 0x6A: 0x62}  # one by one, or packed
_COUNTS = {0x59: 0x52, 0x5A: 0x52, 0x71: 0x6A, 0x72: 0x6A}


@dataclass(slots=True)
class Buckets:
    """Classic buckets: upper bound and cumulative count; exemplars by the place of their bucket."""

    bounds: list[tuple[float, float]] = field(default_factory=list)
    by_place: dict[int, RawExemplar] = field(default_factory=dict)

    @property
    def exemplars(self) -> list[RawExemplar]:
        return [self.by_place[place] for place in sorted(self.by_place)]

    def closed(self, count: float) -> Iterator[tuple[float, float]]:
        """The buckets, and the one of +Inf that a client may leave out."""
        yield from self.bounds
        if not self.bounds or self.bounds[-1][0] != math.inf:
            yield math.inf, count

    def add(self, body: bytes, position: int, end: int) -> None:
        """Read one Bucket. Raises WireError, IndexError."""
        count, bound, is_float = 0.0, 0.0, False
        while position < end:
            tag, position = read_varint(body, position)
            if tag == 0x08:
                number, position = read_varint(body, position)
                count = count if is_float else float(number)
            elif tag == 0x21:
                value, position = read_double(body, position, end)
                if value > 0:
                    count, is_float = value, True
            elif tag == 0x11:
                bound, position = read_double(body, position, end)
            elif tag == 0x1A:
                start, position = read_span(body, position, end)
                self.by_place[len(self.bounds)] = read_exemplar(body, start, position)
            else:
                position = skip_field(body, tag, position, end)
        check_within(position, end)
        self.bounds.append((bound, count))


@dataclass(slots=True)
class ClientHistogram:
    """A histogram as a client said it."""

    count_int: int = 0
    count_float: float = 0.0
    sum: float = 0.0
    schema: bytes = b"\x00"  # the varint, as both messages have it
    zero_threshold: float = 0.0
    zero_count: int = 0
    zero_count_float: float = 0.0
    created_ms: int | None = None
    spans: bytes = b""  # fields of remote write's message
    deltas: dict[int, bytearray] = field(default_factory=dict)  # by the tag of remote write's message, packed
    buckets: Buckets = field(default_factory=Buckets)
    exemplars: list[RawExemplar] = field(default_factory=list)

    @classmethod
    def read(cls, body: bytes, position: int, end: int) -> ClientHistogram:
        """Raises WireError, IndexError."""
        histogram = cls()
        while position < end:
            tag, position = read_varint(body, position)
            position = histogram._read_field(body, tag, position, end)
        check_within(position, end)
        return histogram

    def _read_field(self, body: bytes, tag: int, position: int, end: int) -> int:
        if tag == 0x1A:
            start, position = read_span(body, position, end)
            self.buckets.add(body, start, position)
        elif tag == 0x08:
            self.count_int, position = read_varint(body, position)
        elif tag == 0x11:
            self.sum, position = read_double(body, position, end)
        elif tag in _SPANS:
            start, position = read_span(body, position, end)
            self.spans += length_delimited(_SPANS[tag], body[start:position])
        elif tag in _DELTAS or tag in _COUNTS:
            position = self._read_packed(body, tag, position, end)
        elif tag == 0x7A:
            start, position = read_span(body, position, end)
            self.created_ms = read_milliseconds(body, start, position)
        elif tag == 0x82:
            start, position = read_span(body, position, end)
            self.exemplars.append(read_exemplar(body, start, position))
        else:
            position = self._read_scalar(body, tag, position, end)
        return position

    def _read_packed(self, body: bytes, tag: int, position: int, end: int) -> int:
        start = position
        if tag & 7 == 2:
            start, position = read_span(body, position, end)
        else:
            position = skip_field(body, tag, position, end)
        self.deltas.setdefault(_DELTAS.get(tag) or _COUNTS[tag], bytearray()).extend(body[start:position])
        return position

    def _read_scalar(self, body: bytes, tag: int, position: int, end: int) -> int:
        if tag == 0x28:
            start = position
            _, position = read_varint(body, position)
            self.schema = body[start:position]
        elif tag == 0x31:
            self.zero_threshold, position = read_double(body, position, end)
        elif tag == 0x38:
            self.zero_count, position = read_varint(body, position)
        elif tag == 0x41:
            self.zero_count_float, position = read_double(body, position, end)
        elif tag == 0x21:
            self.count_float, position = read_double(body, position, end)
        else:
            position = skip_field(body, tag, position, end)
        return position

    @property
    def is_native(self) -> bool:
        """As in Prometheus: any trace of sparse buckets; an empty one says so by a span of length 0."""
        return bool(self.spans or self.zero_threshold > 0 or self.zero_count > 0 or self.zero_count_float > 0)

    @property
    def count(self) -> float:
        return self.count_float if self.count_float > 0 else float(self.count_int)

    def message(self, *, is_gauge: bool) -> bytes:
        """An `io.prometheus.write.v2.Histogram` without its timestamp: `with_timestamp` adds that."""
        floats = self.count_float > 0 or self.zero_count_float > 0
        parts = [
            b"\x11" + _DOUBLE.pack(self.count_float) if floats else b"\x08" + varint(self.count_int),
            b"\x19" + _DOUBLE.pack(self.sum),
            b"\x20" + self.schema,
            b"\x29" + _DOUBLE.pack(self.zero_threshold),
            b"\x39" + _DOUBLE.pack(self.zero_count_float) if floats else b"\x30" + varint(self.zero_count),
            self.spans,
            *(length_delimited(bytes((tag,)), bytes(packed)) for tag, packed in sorted(self.deltas.items())),
            _GAUGE_HINT if is_gauge else b"",
        ]
        if self.created_ms is not None and 0 < self.created_ms < FAR_MS:
            parts.append(b"\x88\x01" + varint(self.created_ms))  # start_timestamp = 17
        return b"".join(parts)


def with_timestamp(message: bytes, timestamp_ms: int) -> bytes:
    """A v2.Histogram with its timestamp (field 15); one that is already in it no longer counts."""
    return message + b"\x78" + varint(timestamp_ms)


def read_double(body: bytes, position: int, end: int) -> tuple[float, int]:
    """Raises WireError when the message ends before."""
    check_within(position + 8, end)
    return float(_DOUBLE.unpack_from(body, position)[0]), position + 8


def read_exemplar(body: bytes, position: int, end: int) -> RawExemplar:
    """An Exemplar. Raises WireError, IndexError."""
    labels: list[bytes] = []
    value, timestamp_ms = 0.0, None
    while position < end:
        tag, position = read_varint(body, position)
        if tag == 0x11:
            value, position = read_double(body, position, end)
        elif tag in (0x0A, 0x1A):
            start, position = read_span(body, position, end)
            if tag == 0x0A:
                labels.append(body[start:position])
            else:
                timestamp_ms = read_milliseconds(body, start, position)
        else:
            position = skip_field(body, tag, position, end)
    check_within(position, end)
    return RawExemplar(read_pairs(labels), value, timestamp_ms)


def read_milliseconds(body: bytes, position: int, end: int) -> int:
    """A google.protobuf.Timestamp in ms, at most `FAR_MS` from 1970. Raises WireError, IndexError."""
    seconds, nanos = 0, 0
    while position < end:
        tag, position = read_varint(body, position)
        if tag == 0x08:
            seconds, position = read_int64(body, position)
        elif tag == 0x10:
            nanos, position = read_int64(body, position)
        else:
            position = skip_field(body, tag, position, end)
    check_within(position, end)
    return max(-FAR_MS, min(FAR_MS, seconds * 1000 + nanos // 1_000_000))
