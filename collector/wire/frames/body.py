"""Bodies: a header with a checksum, and the blocks of one or several streams."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from collector.wire.frames.dictionary import CHECK_BYTES, NAME_BYTES, check_entries
from collector.wire.frames.layout import Cursor, Section, malformed, too_large, varint
from collector.wire.frames.model import (
    MAX_AT_MS,
    MAX_BODY_BYTES,
    MAX_BODY_PATCH_BYTES,
    MAX_BODY_SAMPLES,
    VERSION,
    Block,
    FrameLimits,
)
from collector.wire.frames.sections import Budget, Patch, columns_limit, parse_patch

_MAGIC = b"BYF"
_HEADER = struct.Struct("<3sBQIII")  # magic, version, group, blocks, samples, crc32 of all other bytes
_CRC_BYTES = 4

ROOT, PATCH, COLUMNS, KEYFRAME, ABSENT, EXTRAS = (1 << bit for bit in range(6))


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a block. A block that changes the stream's state leads from version `before` to `version`.

    `check` and `before_check` are the first bytes of the dictionary's names after and before it.
    """

    flags: int
    stream: int
    at_ms: int
    samples: int
    version: int
    before: int  # the version that must be known; a root needs none
    check: bytes
    before_check: bytes
    name: bytes  # 16 bytes; empty unless the block has a patch

    @property
    def is_root(self) -> bool:
        return bool(self.flags & ROOT)

    @property
    def changes_state(self) -> bool:
        return bool(self.flags & (PATCH | KEYFRAME))

    def render(self) -> bytes:
        """The head's bytes."""
        parts = [bytes((self.flags,)), varint(self.stream), varint(self.at_ms), varint(self.samples)]
        parts.append(varint(self.version))
        if not self.is_root:
            if self.changes_state:
                parts.append(varint(self.version - self.before))
            parts.append(self.before_check)
        return b"".join(parts) + self.name


@dataclass(frozen=True, slots=True)
class BlockView:
    """One block, its head and patch checked; columns and extras are not opened yet."""

    head: Head
    patch: Patch | None
    columns: Section | None
    extras: Section | None
    block: Block  # as it came, to join it into another body

    @property
    def stream(self) -> int:
        return self.head.stream

    @property
    def at_ms(self) -> int:
        return self.head.at_ms

    @property
    def is_root(self) -> bool:
        return self.head.is_root

    @property
    def samples(self) -> int:
        """As the block says; whether that is true shows when its columns are opened."""
        return self.head.samples


@dataclass(frozen=True, slots=True)
class Body:
    """A body whose header, checksum, block heads and patches were checked."""

    group: int
    samples: int
    blocks: Sequence[BlockView]


def join_blocks(group: int, blocks: Sequence[Block]) -> bytes:
    """One body of blocks. ValueError when they are more than the MAX_BODY_ constants allow; one always fits."""
    samples = sum(block.samples for block in blocks)
    content = b"".join([block.content for block in blocks])
    patches = sum(block.patch_bytes for block in blocks)
    size = len(content) + _HEADER.size
    if size > MAX_BODY_BYTES or samples > MAX_BODY_SAMPLES or patches > MAX_BODY_PATCH_BYTES:
        raise ValueError(
            f"{size} bytes with {samples} samples and {patches} bytes of patches are too much for one body: "
            f"at most {MAX_BODY_BYTES}, {MAX_BODY_SAMPLES} and {MAX_BODY_PATCH_BYTES}"
        )
    header = _HEADER.pack(_MAGIC, VERSION, group, len(blocks), samples, 0)[:-_CRC_BYTES]
    return header + struct.pack("<I", zlib.crc32(content, zlib.crc32(header))) + content


def block_streams(body: bytes) -> list[tuple[int, int]]:
    """Flags and stream of each block, and nothing checked: for whoever may pass a body over. Raises IndexError."""
    found, at, size = [], _HEADER.size, len(body)
    while at < size:
        length, at = _leading_varint(body, at)
        stream, _ = _leading_varint(body, at + 1)
        found.append((body[at], stream))
        at += length
    return found


def _leading_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while content[at] & 0x80:
        value |= (content[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | content[at] << shift, at + 1


def body_group(body: bytes) -> int:
    """The group of a body, from its header alone. Raises WireError."""
    return _parse_header(body)[0]


def open_body(body: bytes, limits: FrameLimits, *, are_entries_checked: bool = True) -> Body:
    """Check the header, the checksum, block heads and patches; columns stay closed.

    Without `are_entries_checked`, what entries of patches hold is left to the caller (`check_entries`).

    Raises WireError (400) or BodyTooLarge (413).
    """
    if len(body) > limits.max_body_bytes:
        raise too_large("body", f"{len(body)} bytes", f"at most {limits.max_body_bytes}")
    group, count, samples, checksum = _parse_header(body)
    if count > limits.max_blocks or samples > limits.max_samples:
        raise too_large(
            "header",
            f"{count} blocks, {samples} samples",
            f"at most {limits.max_blocks} and {limits.max_samples}",
        )
    if zlib.crc32(memoryview(body)[_HEADER.size :], zlib.crc32(body[: _HEADER.size - _CRC_BYTES])) != checksum:
        raise malformed("header", "a checksum that is not the body's", "crc32 of all other bytes")
    blocks = list(_parse_blocks(body, limits, are_entries_checked))
    if len(blocks) != count or sum(block.samples for block in blocks) != samples:
        raise malformed("header", f"{count} blocks, {samples} samples", "as many as there are")
    return Body(group, samples, blocks)


def _parse_header(body: bytes) -> tuple[int, int, int, int]:
    if len(body) < _HEADER.size:
        raise malformed("header", f"{len(body)} bytes", f"{_HEADER.size} or more")
    magic, version, group, count, samples, checksum = _HEADER.unpack_from(body)
    if magic != _MAGIC or version != VERSION:
        raise malformed("header", repr(body[:4]), f"{_MAGIC!r} and version {VERSION}")
    return group, count, samples, checksum


def _parse_blocks(body: bytes, limits: FrameLimits, are_entries_checked: bool) -> Iterator[BlockView]:
    cursor = Cursor(body, "body", _HEADER.size)
    budget = Budget(limits.max_patch_bytes, limits.max_patch_slots, limits.max_body_extras_bytes)
    while cursor.position < cursor.end:
        start = cursor.position
        length = cursor.varint()
        if length > cursor.end - cursor.position:
            raise cursor.wrong(f"a block of {length} bytes", f"at most the {cursor.end - cursor.position} left")
        block = Cursor(body, "block", cursor.position, cursor.position + length)
        cursor.position += length
        yield _parse_block(block, body[start : cursor.position], limits, budget, are_entries_checked)


def _parse_block(
    cursor: Cursor, content: bytes, limits: FrameLimits, budget: Budget, are_entries_checked: bool
) -> BlockView:
    head = _parse_head(cursor, limits)
    patch = columns = extras = None
    patch_bytes = 0
    if head.flags & PATCH:
        section = Section(cursor, "patch", budget.patch_bytes)
        budget.patch_bytes -= section.size
        patch_bytes = section.size
        patch = parse_patch(section.open(), limits, budget)
        if are_entries_checked:
            check_entries(patch.entries, limits)
    if head.flags & COLUMNS:
        columns = Section(cursor, "columns", columns_limit(head.samples))
    if head.flags & EXTRAS:
        extras = Section(cursor, "extras", min(limits.max_extras_bytes, budget.extras_bytes))
        budget.extras_bytes -= extras.size
    cursor.finish()
    return BlockView(head, patch, columns, extras, Block(content, head.samples, patch_bytes))


def _parse_head(cursor: Cursor, limits: FrameLimits) -> Head:
    [flags] = cursor.take(1)
    if _is_wrong(flags):
        raise cursor.wrong(f"the flags {flags:#x}", "a combination of the specification")
    stream, at_ms = cursor.varint(0xFFFFFFFF), cursor.varint(MAX_AT_MS)
    samples, version = cursor.varint(limits.max_samples), cursor.varint()
    before, before_check, name = version, b"", b""
    if not flags & ROOT:
        if flags & (PATCH | KEYFRAME):
            before -= cursor.varint(version)
            if before == version:
                raise cursor.wrong("a change that leads nowhere", "a higher version")
        before_check = cursor.take(CHECK_BYTES)
    if flags & PATCH:
        name = cursor.take(NAME_BYTES)
    return Head(
        flags, stream, at_ms, samples, version, before, name[:CHECK_BYTES] or before_check, before_check, name
    )


def _is_wrong(flags: int) -> bool:
    lone_root = flags & ROOT and not flags & PATCH
    lone_columns = flags & (KEYFRAME | ABSENT) and not flags & COLUMNS
    return bool(flags > 63 or lone_root or lone_columns)
