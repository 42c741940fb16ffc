"""Snappy's block format, the only compression of remote write; the framed format is not allowed there.

Source: google/snappy, format_description.txt: the body begins with its decompressed length as a varint.
"""

from __future__ import annotations

import threading

import cramjam

from collector.wire.errors import BodyTooLarge, WireError

_KEPT_BYTES = 4 * 1024 * 1024  # of each thread that decompresses to look and not to keep
_local = threading.local()


def declared_length(body: bytes) -> int:
    """The length that a compressed body says it will have. Raises WireError."""
    length = 0
    for index, byte in enumerate(body[:5]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if length >= 2**32:
                break
            return length
    raise WireError.at("body", "no length in front", "snappy's block format (not framed)")


def decompress(body: bytes, max_bytes: int) -> bytes:
    """The content. The declared length is checked before anything is allocated. Raises BodyTooLarge, WireError."""
    return _decompressed(body, bytearray(_length_within(body, max_bytes))).tobytes()


def decompress_view(body: bytes, max_bytes: int) -> memoryview:
    """The same, not copied: what it shows is good until this thread decompresses again."""
    length = _length_within(body, max_bytes)
    if length > _KEPT_BYTES:
        return _decompressed(body, bytearray(length))
    room = getattr(_local, "room", None)
    if room is None:
        room = _local.room = bytearray(_KEPT_BYTES)
    return _decompressed(body, room)


def _length_within(body: bytes, max_bytes: int) -> int:
    length = declared_length(body)
    if length > max_bytes:
        raise BodyTooLarge.at(
            "body", f"{length} bytes declared", f"at most {max_bytes} bytes decompressed: push less"
        )
    return length


def _decompressed(body: bytes, room: bytearray) -> memoryview:
    try:
        return memoryview(room).toreadonly()[: cramjam.snappy.decompress_raw_into(body, room)]
    except cramjam.DecompressionError as error:
        raise WireError.at("body", str(error), "snappy's block format (not framed)") from None


def compress(content: bytes) -> bytes:
    """`content` in snappy's block format."""
    return bytes(cramjam.snappy.compress_raw(content))
