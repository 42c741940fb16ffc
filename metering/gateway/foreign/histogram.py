"""Native histograms as they are sent, checked: `io.prometheus.write.v2.Histogram` and remote write 1.0's are alike.

Sources: prometheus/docs, specs/native_histograms.md; prometheus/prometheus, model/histogram (Validate).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from collector.wire.errors import WireError
from collector.wire.protobuf import (
    BYTES,
    FIXED64,
    VARINT,
    check_within,
    decode_whole,
    read_int64,
    read_span,
    read_varint,
)

CUSTOM_BUCKETS = -53
_SCHEMAS = frozenset({CUSTOM_BUCKETS, *range(-4, 9)})
_MOST_BUCKETS = 10_000
_STALE_BITS = 0x7FF0000000000002

_DOUBLES, _SPANS, _DELTAS = frozenset({10, 13, 16}), frozenset({8, 11}), frozenset({9, 12})
_KINDS = {
    **dict.fromkeys((1, 4, 6, 14, 15, 17), VARINT),
    **dict.fromkeys((2, 3, 5, 7), FIXED64),
    **dict.fromkeys((8, 11), BYTES),
}


@dataclass(slots=True)
class _Read:
    """The fields by number."""

    numbers: dict[int, int] = field(default_factory=dict)
    doubles: dict[int, float] = field(default_factory=dict)
    spans: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {8: [], 11: []})
    columns: dict[int, list[float]] = field(default_factory=lambda: {9: [], 10: [], 12: [], 13: [], 16: []})


def check_histogram(message: bytes) -> tuple[int, str | None]:
    """The timestamp (ms) of a Histogram message, and what is wrong with it, if anything. Raises WireError."""
    read = decode_whole(lambda: _read(message), len(message), len(message))
    return read.numbers.get(15, 0), _fault(read)


def _read(message: bytes) -> _Read:
    read, position, end = _Read(), 0, len(message)
    while position < end:
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if _KINDS.get(number, kind) != kind or not 1 <= number <= 17:
            raise WireError.at(f"byte {position}", f"the tag {tag} in a histogram", "fields as specified")
        if number in _DELTAS or number in _DOUBLES:
            position = _read_column(message, number, kind, position, read)
        elif kind == BYTES:
            start, position = read_span(message, position, end)
            read.spans[number].append(_read_span(message, start, position))
        elif kind == FIXED64:
            read.doubles[number] = _double(message, position)
            position += 8
        else:
            value, position = read_int64(message, position)
            read.numbers[number] = _zigzag(value) if number == 4 else value
        check_within(position, end)
        if sum(map(len, read.columns.values())) > 3 * _MOST_BUCKETS:
            raise WireError.at(f"byte {position}", "too many buckets", f"at most {_MOST_BUCKETS}")
    return read


def _read_column(message: bytes, number: int, kind: int, position: int, read: _Read) -> int:
    """A repeated number, packed or one by one; the position after it."""
    column = read.columns[number]
    scalar = FIXED64 if number in _DOUBLES else VARINT
    if kind not in {BYTES, scalar}:
        raise WireError.at(f"byte {position}", f"field {number} of a histogram as wire type {kind}", "as specified")
    start, end = read_span(message, position, len(message)) if kind == BYTES else (position, position + 1)
    while start < end:
        if number in _DOUBLES:
            column.append(_double(message, start))
            start += 8
        else:
            value, start = read_varint(message, start)
            column.append(_zigzag(value))
    if kind == BYTES:
        check_within(start, end)
    return start


def _read_span(message: bytes, position: int, end: int) -> tuple[int, int]:
    offset = length = 0
    while position < end:
        tag, position = read_varint(message, position)
        value, position = read_varint(message, position)
        if tag == 0x08:
            offset = _zigzag(value)
        elif tag == 0x10:
            length = value & 0xFFFFFFFF
        else:
            raise WireError.at(f"byte {position}", f"the tag {tag} in a span", "offset and length")
    check_within(position, end)
    return offset, length


def _fault(read: _Read) -> str | None:
    """What is wrong with a histogram, or nothing."""
    schema = read.numbers.get(4, 0)
    if schema not in _SCHEMAS:
        return f"the schema {schema}"
    is_float = 2 in read.doubles
    if 7 in read.doubles if not is_float else 1 in read.numbers or 6 in read.numbers:
        return "counts of integers and of floats"
    sides = [
        _buckets(read, spans, deltas, counts, is_float) for spans, deltas, counts in ((8, 9, 10), (11, 12, 13))
    ]
    for side in sides:
        if isinstance(side, str):
            return side
    if schema == CUSTOM_BUCKETS:
        fault = _custom_fault(read)
    else:
        fault = "custom bounds beside exponential buckets" if read.columns[16] else _zero_fault(read)
    return fault or _count_fault(read, [side for side in sides if not isinstance(side, str)], is_float)


def _buckets(read: _Read, spans: int, deltas: int, counts: int, is_float: bool) -> list[float] | str:
    """The counts of one side, or what is wrong with them."""
    unused, used = (deltas, counts) if is_float else (counts, deltas)
    if read.columns[unused]:
        return "counts of integers and of floats"
    column = read.columns[used]
    lengths = sum(length for _, length in read.spans[spans])
    if lengths != len(column):
        return f"spans over {lengths} buckets and {len(column)} of them"
    if any(offset < 0 for offset, _ in read.spans[spans][1:]):
        return "a span that begins before the last one's end"
    absolute = column if is_float else list(accumulate(column))
    if any(not count >= 0 for count in absolute):  # a NaN too
        return "a bucket of less than nothing"
    return absolute


def _custom_fault(read: _Read) -> str | None:
    bounds = read.columns[16]
    if read.spans[8] or read.columns[9] or read.columns[10]:
        return "negative and custom buckets"
    if read.doubles.get(5) or read.numbers.get(6) or read.doubles.get(7):
        return "a zero bucket and custom buckets"
    if any(not low < high for low, high in pairwise(bounds)) or any(map(math.isnan, bounds)) or math.inf in bounds:
        return "custom bounds that do not grow"
    spans = read.spans[11]
    if (spans and spans[0][0] < 0) or sum(offset + length for offset, length in spans) > len(bounds) + 1:
        return "buckets outside the custom bounds"
    return None


def _zero_fault(read: _Read) -> str | None:
    if not read.doubles.get(5, 0.0) >= 0:
        return "a zero threshold below zero"
    if not read.doubles.get(7, 0.0) >= 0:
        return "a zero bucket of less than nothing"
    return None


def _count_fault(read: _Read, sides: list[list[float]], is_float: bool) -> str | None:
    """Observations of NaN are in the count and in no bucket, so with a sum of NaN the count may be larger."""
    total = read.doubles.get(3, 0.0)
    if is_float:
        count = read.doubles[2]
        return None if count >= 0 or _is_stale(total) else "a count below zero"
    zero, count = read.numbers.get(6, 0) % 2**64, read.numbers.get(1, 0) % 2**64
    found = zero + sum(map(int, sides[0])) + sum(map(int, sides[1]))
    if found > count or (found < count and not math.isnan(total)):
        return f"a count of {count} and {found} in its buckets"
    return None


def _is_stale(value: float) -> bool:
    return bool(np.float64(value).view(np.uint64) == _STALE_BITS)


def _double(message: bytes, position: int) -> float:
    if position + 8 > len(message):
        raise IndexError
    value: float = struct.unpack_from("<d", message, position)[0]
    return value


def _zigzag(value: int) -> int:
    value &= 2**64 - 1
    return value >> 1 ^ -(value & 1)
