"""The bytes that everything in a body is made of: varints, byte planes, lists of slots, zstd sections."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.frames.model import Integers
from kernel.errors import Finding

Unsigned = npt.NDArray[np.uint64]
MAX_WINDOW_BYTES = 8 * 1024 * 1024

_SIZES = (0, 1, 2, 4, 4)  # of an integer that holds so many byte planes
_SMALL = 64  # bytes; less than this is stored as it is, as zstd would add more than it takes away


def malformed(where: str, found: object, allowed: str) -> WireError:
    """A finding in a body of frames."""
    return WireError([Finding("frames", where, str(found), allowed)])


def too_large(where: str, found: object, allowed: str) -> BodyTooLarge:
    """A limit that a body of frames breaks."""
    return BodyTooLarge([Finding("frames", where, str(found), allowed)])


def varint(value: int) -> bytes:
    """LEB128 of an unsigned integer below 2^63."""
    if value < 128:
        return bytes((value,))
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def zigzag(value: int) -> int:
    """Signed to unsigned: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(coded: int) -> int:
    """The inverse of `zigzag`."""
    return -((coded + 1) >> 1) if coded & 1 else coded >> 1


def zigzag_array(deltas: Integers) -> Unsigned:
    """Signed to unsigned, element by element."""
    return ((deltas << 1) ^ (deltas >> 63)).view(np.uint64)


def unzigzag_array(coded: Unsigned) -> Integers:
    """The inverse of `zigzag_array`."""
    return (coded >> np.uint64(1)).view(np.int64) ^ -((coded & np.uint64(1)).view(np.int64))


def planes(values: Unsigned) -> bytes:
    """Byte planes: how many (1 byte), then the lowest bytes of all values, the next, up to the highest used."""
    used = (int(values.max()).bit_length() + 7) // 8 if len(values) else 0
    octets = values.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    return bytes((used,)) + b"".join([octets[:, plane].tobytes() for plane in range(used)])


def slot_list(slots: npt.NDArray[Any]) -> bytes:
    """How many, and the gaps between strictly ascending slots, less one."""
    if not len(slots):
        return b"\0"
    gaps = np.diff(slots.astype(np.int64), prepend=-1) - 1
    return varint(len(slots)) + planes(gaps.view(np.uint64))


class Compressor:
    """Sections at one level of zstd. Not for concurrent use."""

    def __init__(self, level: int) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level, write_content_size=True)

    def section(self, raw: bytes) -> bytes:
        """Length, length as coded (0: stored as it is), bytes."""
        if len(raw) >= _SMALL:
            coded = self._zstd.compress(raw)
            if len(coded) < len(raw):
                return varint(len(raw)) + varint(len(coded)) + coded
        return varint(len(raw)) + b"\0" + raw


class Cursor:
    """Reads forward in bytes that nobody vouches for. Each method raises WireError at the end of the bytes."""

    __slots__ = ("end", "octets", "position", "where")

    def __init__(self, octets: bytes, where: str, position: int = 0, end: int | None = None) -> None:
        self.octets = octets
        self.where = where
        self.position = position
        self.end = len(octets) if end is None else end

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.position
        if count > self.end - start:
            raise self.wrong(f"{self.end - start} bytes", f"the {count} that are announced")
        self.position = start + count
        return self.octets[start : self.position]

    def varint(self, limit: int = (1 << 63) - 1) -> int:
        """An unsigned integer, at most `limit`."""
        value = shift = 0
        while True:
            [octet] = self.take(1)
            value |= (octet & 127) << shift
            if octet < 128:
                break
            shift += 7
            if shift > 56:
                raise self.wrong("a varint over nine bytes", "less than 2^63")
        if value > limit:
            raise self.wrong(value, f"at most {limit}")
        return value

    def planes(self, count: int) -> Unsigned:
        """`count` integers from their byte planes."""
        used = self.take(1)[0] if self.position < self.end else 9
        if used > 8:
            raise self.wrong(f"{used} byte planes", "0 to 8")
        octets = np.frombuffer(self.take(used * count), np.uint8)
        if used == 1:
            return octets.astype(np.uint64)
        wide = np.zeros((count, 8), np.uint8)
        for plane in range(used):
            wide[:, plane] = octets[plane * count : (plane + 1) * count]
        return wide.view("<u8").ravel().astype(np.uint64, copy=False)

    def narrow_planes(self, count: int) -> npt.NDArray[np.signedinteger[Any]] | None:
        """`count` zigzag integers from at most four byte planes, as integers of so many bytes (three as four).

        None, and nothing is read, if there are more planes, or none.
        """
        used = self.octets[self.position] if self.position < self.end else 0
        if not 1 <= used <= 4:
            return None
        self.position += 1
        octets = np.frombuffer(self.take(used * count), np.uint8)
        size = _SIZES[used]
        if used > 1:
            wide = np.empty((count, size), np.uint8) if used == size else np.zeros((count, size), np.uint8)
            for plane in range(used):
                wide[:, plane] = octets[plane * count : (plane + 1) * count]
            octets = wide
        coded = octets.view(f"<u{size}").reshape(-1)
        found: npt.NDArray[np.signedinteger[Any]] = (coded >> 1).view(f"<i{size}") ^ -(coded & 1).view(f"<i{size}")
        return found

    def slot_list(self, limit: int, bound: int) -> Integers:
        """Strictly ascending slots, at most `limit` of them, each below `bound`."""
        count = self.varint(limit)
        if not count:
            return np.empty(0, np.int64)
        gaps = self.planes(count)
        if int(gaps.max()) >= bound:
            raise self.wrong(f"slot {int(gaps.max())} or more", f"below {bound}")
        slots = np.cumsum(gaps.view(np.int64) + 1) - 1
        if int(slots[-1]) >= bound:
            raise self.wrong(f"slot {int(slots[-1])}", f"below {bound}")
        return slots

    def finish(self) -> None:
        """Raises WireError when bytes are left."""
        if self.position != self.end:
            raise self.wrong(f"{self.end - self.position} bytes more", "none after the end")

    def wrong(self, found: object, allowed: str) -> WireError:
        """A finding at this place."""
        return malformed(f"{self.where}, byte {self.position}", found, allowed)


class Section:
    """A section whose lengths were checked; the bytes come out with `open`."""

    __slots__ = ("_coded", "_is_stored", "_where", "size")

    def __init__(self, cursor: Cursor, where: str, limit: int) -> None:
        """Read the section at the cursor. Raises WireError; BodyTooLarge for more than `limit` bytes, opened."""
        self.size = cursor.varint()
        if self.size > limit:
            raise too_large(where, f"{self.size} bytes", f"at most {limit}")
        coded = cursor.varint()
        self._is_stored = not coded
        self._coded = cursor.take(coded or self.size)
        self._where = where
        if not self._is_stored:
            self._check(cursor)

    def _check(self, cursor: Cursor) -> None:
        try:
            frame = zstandard.get_frame_parameters(self._coded)
        except zstandard.ZstdError as error:
            raise cursor.wrong(f"no zstd frame ({error})", "zstd") from error
        if frame.content_size != self.size:
            raise cursor.wrong(f"zstd of {frame.content_size} bytes", f"of the {self.size} announced")
        if frame.window_size > MAX_WINDOW_BYTES or frame.dict_id:
            raise cursor.wrong("a zstd frame with a dictionary or a wide window", "neither")

    def open(self) -> Cursor:
        """The section's bytes. Raises WireError."""
        if self._is_stored:
            return Cursor(self._coded, self._where)
        try:
            raw = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompress(
                self._coded, max_output_size=self.size, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise malformed(self._where, f"damaged zstd ({error})", "zstd") from error
        if len(raw) != self.size:
            raise malformed(self._where, f"{len(raw)} bytes", f"the {self.size} announced")
        return Cursor(raw, self._where)
