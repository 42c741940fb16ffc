"""Roots that rebuild what a reader knows of a group in another one: the answer to a 409."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from collector.wire.frames.body import join_blocks
from collector.wire.frames.extras import NO_SLOTS
from collector.wire.frames.layout import Compressor
from collector.wire.frames.mirror import Mirror
from collector.wire.frames.model import MAX_BODY_BYTES, MAX_BODY_PATCH_BYTES, Block
from collector.wire.frames.sections import Patch
from collector.wire.frames.state import StreamState

_HEADER_BYTES = 100  # more than the header of a body takes


@dataclass(frozen=True, slots=True)
class Root:
    """What one stream has to become."""

    stream: int
    at_ms: int
    version: int
    state: StreamState
    entries: Mapping[int, bytes]  # by live slot


def rebuild(group: int, roots: Sequence[Root]) -> list[bytes]:
    """Bodies without samples, to be read in their order."""
    compressor = Compressor(1)
    blocks = [block for root in roots for block in _blocks(root, compressor)]
    bodies: list[bytes] = []
    joined: list[Block] = []
    for block in blocks:
        size = sum(len(one.content) for one in joined) + len(block.content)
        patches = sum(one.patch_bytes for one in joined) + block.patch_bytes
        if size > MAX_BODY_BYTES - _HEADER_BYTES or patches > MAX_BODY_PATCH_BYTES:
            bodies.append(join_blocks(group, joined))
            joined = []
        joined.append(block)
    return [*bodies, join_blocks(group, joined)] if joined else bodies


def _blocks(root: Root, compressor: Compressor) -> Iterator[Block]:
    slots = np.array(sorted(root.entries), np.int64)
    bases = root.state.bases
    entries = [root.entries[slot] for slot in slots.tolist()]
    mirror = Mirror(root.stream, compressor)
    pieces = mirror.change(Patch(NO_SLOTS, slots, entries, bases.classes[slots], bases.coded[slots]))
    # The last of them leads to the very version; those before take numbers that no encoder gives away.
    versions = iter(range(root.version - len(pieces) + 1, root.version + 1))
    for piece in pieces:
        yield mirror.seal(piece, root.at_ms, versions)
