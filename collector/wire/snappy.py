"""Snappy's block format, the only compression of remote write; the framed format is not allowed there.

Source: google/snappy, format_description.txt: the body begins with its decompressed length as a varint.
"""

from __future__ import annotations

import cramjam

from collector.wire.errors import BodyTooLarge, WireError


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
    return bytes(decompress_view(body, max_bytes))


def decompress_view(body: bytes, max_bytes: int) -> memoryview:
    """The same, not copied."""
    length = declared_length(body)
    if length > max_bytes:
        raise BodyTooLarge.at(
            "body", f"{length} bytes declared", f"at most {max_bytes} bytes decompressed: push less"
        )
    try:
        return memoryview(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise WireError.at("body", str(error), "snappy's block format (not framed)") from None


def compress(content: bytes) -> bytes:
    """`content` in snappy's block format."""
    return bytes(cramjam.snappy.compress_raw(content))
