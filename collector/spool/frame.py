"""One frame of the spool: what one push sends, and what is needed to number, count and check it.

    magic 4 | length of the rest 4 | CRC-32 of length and rest 4 | rest
    rest: version 1 | epoch 8 | sequence 8 | lane 1 | kind 1 | complete through 8 | appended 8 | samples 4
          | length of meta 4 | meta | payload

Little-endian. The checksum is CRC-32 as of zlib (IEEE 802.3), begun from the segment's random salt: bytes inside a
scraped label can't be made to look like a frame, and a frame copied to another segment is not one.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from collector.wire.headers import PushLane

MAGIC = b"\xf5bY\xfe"
PREFIX = Struct("<4sII")
MAX_FRAME_BYTES = 128 * 1024 * 1024
_REST = Struct("<BQQBBqqII")
_OLD_REST = Struct("<BQQBqII")  # version 1: remote write alone, no time
_VERSION = 2
_LANES = (PushLane.BILLING, PushLane.HISTORY, PushLane.BULK)  # by number; a number is never used anew
_LENGTH = Struct("<I")


class PayloadKind(IntEnum):
    """What a payload is; the numbers are those on disk."""

    RW2 = 1  # a body of remote write 2.0, compressed
    FRAMES = 2  # a body of our own protocol


@dataclass(frozen=True, slots=True)
class Frame:
    """A push as it waits on disk. `payload` is a body as it is sent."""

    epoch: int
    sequence: int
    lane: PushLane
    complete_through_ms: int | None
    samples: int
    meta: bytes  # what the ledger counts, see collector.left; of FRAMES see `metas`
    payload: bytes
    kind: PayloadKind = PayloadKind.RW2
    appended_ms: int = 0
    group: int = 0  # the number of the segment it lies in, not stored in the frame

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.sequence

    @property
    def stored_bytes(self) -> int:
        """Its length on disk."""
        return PREFIX.size + _REST.size + len(self.meta) + len(self.payload)

    @property
    def metas(self) -> list[bytes]:
        """The meta of each draft that ends in this frame."""
        return [self.meta] if self.kind is PayloadKind.RW2 else unpack_metas(self.meta)


class BadFrame(Exception):
    """No valid frame here. `torn`: the bytes end before the frame does."""

    def __init__(self, reason: str, *, torn: bool = False) -> None:
        super().__init__(reason)
        self.torn = torn


def pack_metas(metas: Sequence[bytes]) -> bytes:
    """Several metas as one."""
    return b"".join(_LENGTH.pack(len(meta)) + meta for meta in metas)


def unpack_metas(packed: bytes) -> list[bytes]:
    """The inverse of `pack_metas`; a rest that is none is left out."""
    metas, at = [], 0
    while at + _LENGTH.size <= len(packed):
        (length,) = _LENGTH.unpack_from(packed, at)
        metas.append(packed[at + _LENGTH.size : at + _LENGTH.size + length])
        at += _LENGTH.size + length
    return metas


def encode_frame(frame: Frame, salt: int) -> bytes:
    """The bytes of a frame in a segment with that salt."""
    through = -1 if frame.complete_through_ms is None else frame.complete_through_ms
    lane = _LANES.index(frame.lane)
    fixed = _REST.pack(
        _VERSION, frame.epoch, frame.sequence, lane, frame.kind, through, frame.appended_ms, frame.samples,
        len(frame.meta),
    )  # fmt: skip
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
    if not _OLD_REST.size <= length <= MAX_FRAME_BYTES:
        raise BadFrame(f"a frame length of {length}")
    return length, checksum


def parse_rest(rest: bytes, length: int, checksum: int, salt: int, group: int = 0) -> Frame:
    """The frame of the bytes after a prefix. Raises BadFrame."""
    if len(rest) < length:
        raise BadFrame("the file ends inside a frame", torn=True)
    if zlib.crc32(rest, zlib.crc32(_LENGTH.pack(length), salt)) != checksum:
        raise BadFrame("checksum differs")
    if rest[0] == 1:
        version, epoch, sequence, lane, through, samples, meta_length = _OLD_REST.unpack_from(rest)
        kind, appended_ms, begin = PayloadKind.RW2.value, 0, _OLD_REST.size
    elif rest[0] == _VERSION and length >= _REST.size:
        version, epoch, sequence, lane, kind, through, appended_ms, samples, meta_length = _REST.unpack_from(rest)
        begin = _REST.size
    else:
        raise BadFrame(f"frame version {rest[0]}")
    body = begin + meta_length
    if lane >= len(_LANES) or kind not in set(PayloadKind) or body > length:
        raise BadFrame(f"frame version {version}, lane {lane}, kind {kind}")
    return Frame(
        epoch,
        sequence,
        _LANES[lane],
        None if through < 0 else through,
        samples,
        rest[begin:body],
        rest[body:],
        PayloadKind(kind),
        appended_ms,
        group,
    )
