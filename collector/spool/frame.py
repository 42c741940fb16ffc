"""One frame of the spool: what one push sends, and what is needed to number, count and check it.

    magic 4 | length of the rest 4 | CRC-32 of length and rest 4 | rest
    rest: version 1 | epoch 8 | sequence 8 | lane 1 | complete through 8 | samples 4 | length of meta 4
          | meta | payload

Little-endian. The checksum is CRC-32 as of zlib (IEEE 802.3), begun from the segment's random salt: bytes inside a
scraped label can't be made to look like a frame, and a frame copied to another segment is not one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from struct import Struct

from collector.wire.headers import PushLane

MAGIC = b"\xf5bY\xfe"
PREFIX = Struct("<4sII")
MAX_FRAME_BYTES = 128 * 1024 * 1024
_REST = Struct("<BQQBqII")
_VERSION = 1
_LANES = (PushLane.BILLING, PushLane.HISTORY, PushLane.BULK)  # by number; a number is never used anew
_LENGTH = Struct("<I")


@dataclass(frozen=True, slots=True)
class Frame:
    """A push as it waits on disk. `payload` is a remote write 2.0 body, compressed, as it is sent."""

    epoch: int
    sequence: int
    lane: PushLane
    complete_through_ms: int | None
    samples: int
    meta: bytes  # what the ledger counts, see collector.left
    payload: bytes

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.sequence


class BadFrame(Exception):
    """No valid frame here. `torn`: the bytes end before the frame does."""

    def __init__(self, reason: str, *, torn: bool = False) -> None:
        super().__init__(reason)
        self.torn = torn


def encode_frame(frame: Frame, salt: int) -> bytes:
    """The bytes of a frame in a segment with that salt."""
    through = -1 if frame.complete_through_ms is None else frame.complete_through_ms
    lane = _LANES.index(frame.lane)
    fixed = _REST.pack(_VERSION, frame.epoch, frame.sequence, lane, through, frame.samples, len(frame.meta))
    length = len(fixed) + len(frame.meta) + len(frame.payload)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES}")
    checksum = zlib.crc32(_LENGTH.pack(length), salt)
    for part in (fixed, frame.meta, frame.payload):
        checksum = zlib.crc32(part, checksum)
    return b"".join((PREFIX.pack(MAGIC, length, checksum), fixed, frame.meta, frame.payload))


def parse_prefix(prefix: bytes) -> tuple[int, int]:
    """Length of the rest and checksum. Raises BadFrame."""
    if len(prefix) < PREFIX.size:
        raise BadFrame("partial frame header", torn=True)
    magic, length, checksum = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise BadFrame("no frame begins here")
    if not _REST.size <= length <= MAX_FRAME_BYTES:
        raise BadFrame(f"a frame length of {length}")
    return length, checksum


def parse_rest(rest: bytes, length: int, checksum: int, salt: int) -> Frame:
    """The frame of the bytes after a prefix. Raises BadFrame."""
    if len(rest) < length:
        raise BadFrame("the file ends inside a frame", torn=True)
    if zlib.crc32(rest, zlib.crc32(_LENGTH.pack(length), salt)) != checksum:
        raise BadFrame("checksum differs")
    version, epoch, sequence, lane, through, samples, meta_length = _REST.unpack_from(rest)
    body = _REST.size + meta_length
    if version != _VERSION or lane >= len(_LANES) or body > length:
        raise BadFrame(f"frame version {version}, lane {lane}")
    return Frame(
        epoch,
        sequence,
        _LANES[lane],
        None if through < 0 else through,
        samples,
        rest[_REST.size : body],
        rest[body:],
    )
