"""The few pieces of the protobuf encoding that both encoders need."""

from __future__ import annotations

from struct import Struct

_DOUBLE = Struct("<d")
_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


def varint(value: int) -> bytes:
    """An unsigned varint; a negative int64 takes its ten bytes, as protobuf has it."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if value < 0:
        value += 1 << 64
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def length_delimited(tag: bytes, content: bytes) -> bytes:
    """A field of wire type 2."""
    return tag + varint(len(content)) + content


def sample(timestamp_ms: int, value: float, start_ms: int = 0) -> bytes:
    """A sample field (number 2 of a series, in both versions): the value's bits as they are.

    `start_ms`, which only 2.0 has, is left out when it is 0.
    """
    start = b"\x18" + varint(start_ms) if start_ms else b""
    return length_delimited(b"\x12", b"\x09" + _DOUBLE.pack(value) + b"\x10" + varint(timestamp_ms) + start)
