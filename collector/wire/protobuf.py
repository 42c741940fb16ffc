"""Walking protobuf's wire format without a schema compiler (protobuf.dev, "Encoding").

Every function takes the body and a position and returns the next position. Indexing past the body raises
IndexError, which `decode_whole` turns into a WireError once for the whole walk: the hot path has no checks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from collector.wire.errors import BodyTooLarge, WireError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MASK64 = 2**64 - 1
T = TypeVar("T")


def decode_whole(decode: Callable[[], T], size: int, max_bytes: int) -> T:
    """`decode()` of a body of `size` bytes. Raises BodyTooLarge, WireError (also when it ends in the middle)."""
    if size > max_bytes:
        raise BodyTooLarge.at("body", f"{size} bytes decompressed", f"at most {max_bytes} bytes: push less at once")
    try:
        return decode()
    except IndexError:
        raise WireError.at(
            "body", f"an end after {size} bytes in the middle of a field", "a whole message"
        ) from None


def read_varint(body: bytes, position: int) -> tuple[int, int]:
    """An unsigned 64-bit integer and the position after it. Raises WireError, IndexError at the end of the body."""
    byte = body[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    for index in range(position + 1, position + 10):
        byte = body[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, index + 1
        shift += 7
    raise WireError.at(f"byte {position}", "a varint of more than 10 bytes", "at most 10 bytes")


def read_int64(body: bytes, position: int) -> tuple[int, int]:
    """A signed integer in two's complement (proto3 `int64`, not `sint64`)."""
    value, position = read_varint(body, position)
    return (value - 2**64 if value >= 2**63 else value), position


def read_span(body: bytes, position: int, end: int) -> tuple[int, int]:
    """Start and end of a length-delimited field. Raises WireError when it is longer than what holds it."""
    length, start = body[position], position + 1
    if length >= 0x80:
        length, start = read_varint(body, position)
    if start + length > end:
        raise WireError.at(
            f"byte {position}", f"a field of {length} bytes", f"at most the {end - start} that are left"
        )
    return start, start + length


def skip_field(body: bytes, tag: int, position: int, end: int) -> int:
    """The position after a field that is not used. Raises WireError for a malformed one, groups included."""
    kind = tag & 7
    if tag >> 3 == 0 or kind not in {VARINT, FIXED64, BYTES, FIXED32}:
        raise WireError.at(
            f"byte {position}", f"the field tag {tag}", "a field number from 1 and wire type 0, 1, 2 or 5"
        )
    if kind == VARINT:
        position = read_varint(body, position)[1]
    elif kind == BYTES:
        position = read_span(body, position, end)[1]
    else:
        position += 8 if kind == FIXED64 else 4
    check_within(position, end)
    return position


def check_within(position: int, end: int) -> None:
    """Raises WireError when a field ran over the end of the message that holds it."""
    if position > end:
        raise WireError.at(f"byte {position}", "a field that runs over its message", f"an end at byte {end}")


def check_fields(body: bytes, position: int, end: int) -> None:
    """Check that `[position, end)` is a row of well-formed fields. Raises WireError."""
    while position < end:
        tag, position = read_varint(body, position)
        position = skip_field(body, tag, position, end)


def read_text(body: bytes, start: int, end: int) -> str:
    """UTF-8 text. Raises WireError."""
    try:
        return body[start:end].decode()
    except UnicodeDecodeError as error:
        raise WireError.at(f"byte {start + error.start}", "bytes that are no UTF-8", "UTF-8 text") from None
