"""What of a native histogram's message is a column: `io.prometheus.write.v2.Histogram`, remote write 2.0."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from kernel.errors import DeadLetter

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class HistogramHead(NamedTuple):
    """What of a message is a column. Milliseconds UTC; `start_ms` 0: not told."""

    timestamp_ms: int
    start_ms: int
    schema: int
    observations: float
    sum: float
    zero_threshold: float
    zero_count: float


def parse_head(message: bytes) -> HistogramHead:
    """The head of a message. Raises DeadLetter when it is none."""
    try:
        fields = dict(_fields(message))
        return HistogramHead(
            _signed(fields.get(15, 0)),
            _signed(fields.get(17, 0)),
            _zigzag(fields.get(4, 0)),
            float(fields[1]) if 1 in fields else _double(fields.get(2, 0)),
            _double(fields.get(3, 0)),
            _double(fields.get(5, 0)),
            float(fields[6]) if 6 in fields else _double(fields.get(7, 0)),
        )
    except (IndexError, struct.error, ValueError) as error:
        raise DeadLetter(f"a native histogram that is no message: {error!r}") from error


def _fields(message: bytes) -> Iterator[tuple[int, int]]:
    """Numbers of the message's fields; those with bytes are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == _FIXED64:
            yield number, struct.unpack_from("<Q", message, at)[0]
            at += 8
        elif kind == _BYTES:
            length, at = _varint(message, at)
            at += length
        elif kind == _FIXED32:
            at += 4
        else:
            raise ValueError(f"wire type {kind}")
    if at != len(message):
        raise ValueError("cut off")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (2**64 - 1), at
        if shift > 63:
            raise ValueError("a varint of over ten bytes")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _double(bits: int) -> float:
    found: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return found
