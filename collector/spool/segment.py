"""A segment: a file of frames of one boot, which are one group of our own protocol.

Its name holds the epoch, a number (the group), the sequence of its first frame, and the salt of its checksums. The
sequence says what is missing when its first frames are damaged, or the whole of the segment before it is gone.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collector.spool.frame import MAGIC, PREFIX, BadFrame, Frame, parse_prefix, parse_rest

_NAME = re.compile(r"(\d{16})-(\d{8})-(?:(\d{16})-)?([0-9a-f]{8})\.seg", re.ASCII)
_SCAN_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """Sorts in the order in which segments were written."""

    epoch: int
    number: int
    salt: int
    first: int = 0  # sequence of the first frame; 0: not known, as of segments of older versions

    def __str__(self) -> str:
        first = f"{self.first:016d}-" if self.first else ""
        return f"{self.epoch:016d}-{self.number:08d}-{first}{self.salt:08x}.seg"

    @property
    def group(self) -> tuple[int, int]:
        return self.epoch, self.number

    @classmethod
    def new(cls, epoch: int, number: int, first: int) -> SegmentName:
        return cls(epoch, number, secrets.randbits(32), first)

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """The name of a segment's file; None for any other."""
        named = _NAME.fullmatch(text)
        return named and cls(int(named[1]), int(named[2]), int(named[4], 16), int(named[3] or 0))


def list_segments(folder: Path) -> list[SegmentName]:
    """The segments in `folder`, in order; whatever else lies there is left alone."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        name = SegmentName.parse(path.name)
        if name is not None and path.is_file():
            found.append(name)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that hold no valid frame. `torn`: an unfinished write at the end of the file."""

    offset: int
    length: int
    reason: str
    torn: bool


def read_frame(path: Path, name: SegmentName, offset: int, end: int) -> tuple[Frame, int]:
    """The frame at `offset` of a segment of which `end` bytes count, and where the next begins.

    Raises BadFrame, and OSError when the file can't be read.
    """
    with path.open("rb") as file:
        file.seek(offset)
        prefix = file.read(min(PREFIX.size, max(0, end - offset)))
        length, checksum = parse_prefix(prefix)
        if offset + PREFIX.size + length > end:
            raise BadFrame("the file ends inside a frame", torn=True)
        frame = parse_rest(file.read(length), length, checksum, name.salt, name.number)
    if frame.epoch != name.epoch:
        raise BadFrame(f"a frame of epoch {frame.epoch}")
    return frame, offset + PREFIX.size + length


def next_valid(path: Path, name: SegmentName, offset: int, end: int) -> tuple[Frame, int, int] | None:
    """The first valid frame that begins after `offset`, with its begin and end; None: there is none."""
    for candidate in _magics(path, offset + 1, end):
        try:
            frame, following = read_frame(path, name, candidate, end)
        except BadFrame:
            continue
        return frame, candidate, following
    return None


def scan(path: Path, name: SegmentName, end: int) -> Iterator[Frame | Damage]:
    """Every valid frame of a segment, and every stretch of bytes that is none. Raises OSError."""
    offset = 0
    while offset < end:
        try:
            frame, offset = read_frame(path, name, offset, end)
        except BadFrame as bad:
            found = next_valid(path, name, offset, end)
            until = end if found is None else found[1]
            yield Damage(offset, until - offset, str(bad), bad.torn and found is None)
            if found is None:
                return
            frame, _, offset = found
        yield frame


def scan_whole(path: Path, name: SegmentName) -> Iterator[tuple[int, Frame | Damage]]:
    """As `scan`, with the byte at which each begins; the file is in memory meanwhile. Raises OSError."""
    content, offset = path.read_bytes(), 0
    while offset < len(content):
        begin = offset + PREFIX.size
        try:
            length, checksum = parse_prefix(content[offset:begin])
            frame = parse_rest(content[begin : begin + length], length, checksum, name.salt, name.number)
            if frame.epoch != name.epoch:
                raise BadFrame(f"a frame of epoch {frame.epoch}")
        except BadFrame as bad:
            found = next_valid(path, name, offset, len(content))
            until = len(content) if found is None else found[1]
            yield offset, Damage(offset, until - offset, str(bad), bad.torn and found is None)
            offset = until
            continue
        yield offset, frame
        offset = begin + length


def _magics(path: Path, offset: int, end: int) -> Iterator[int]:
    with path.open("rb") as file:
        while offset < end:
            file.seek(offset)
            block = file.read(min(_SCAN_BYTES, end - offset))
            if len(block) < len(MAGIC):
                return
            at = block.find(MAGIC)
            while at >= 0:
                yield offset + at
                at = block.find(MAGIC, at + 1)
            offset += len(block) - len(MAGIC) + 1
