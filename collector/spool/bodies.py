"""Drafts that wait together become few bodies: one number, one push, one receipt for many small targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from collector.spool.frame import PayloadKind, pack_metas
from collector.spool.options import Draft, PayloadDraft
from collector.wire.frames import MAX_BODY_BYTES, MAX_BODY_PATCH_BYTES, MAX_BODY_SAMPLES, Block

HEADER_BYTES = 4096  # more than a body adds to its blocks, beside BLOCK_BYTES for each
BLOCK_BYTES = 16

Join = Callable[[int, Sequence[Block]], bytes]


@dataclass(slots=True)
class PendingBody:
    """What becomes one frame. `ends`: how many drafts end in it."""

    kind: PayloadKind
    samples: int = 0
    size: int = HEADER_BYTES
    patch_bytes: int = 0
    blocks: list[Block] = field(default_factory=list)
    payload: bytes = b""
    metas: list[bytes] = field(default_factory=list)
    complete_through_ms: int | None = None
    ends: int = 0

    def meta(self) -> bytes:
        """As the frame stores it."""
        return self.metas[0] if self.kind is PayloadKind.RW2 else pack_metas(self.metas)

    def has_room_for(self, block: Block) -> bool:
        """False when the block must go to another body. A body of one block is always allowed."""
        if not self.blocks:
            return self.kind is PayloadKind.FRAMES
        size = self.size + len(block.content) + BLOCK_BYTES
        patches = self.patch_bytes + block.patch_bytes
        fits = size <= MAX_BODY_BYTES and patches <= MAX_BODY_PATCH_BYTES
        return fits and self.samples + block.samples <= MAX_BODY_SAMPLES

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        self.size += len(block.content) + BLOCK_BYTES
        self.samples += block.samples
        self.patch_bytes += block.patch_bytes

    def end(self, meta: bytes, complete_through_ms: int | None) -> None:
        """A draft is in it, or in it and the bodies before it, whole: only now does its promise hold."""
        self.metas.append(meta)
        self.ends += 1
        if complete_through_ms is not None:
            self.complete_through_ms = max(complete_through_ms, self.complete_through_ms or 0)


def join_drafts(drafts: Iterable[Draft | PayloadDraft]) -> list[PendingBody]:
    """Bodies of the drafts, in their order, each within the limits of a push."""
    bodies: list[PendingBody] = []
    for draft in drafts:
        if isinstance(draft, PayloadDraft):
            body = PendingBody(PayloadKind.RW2, draft.samples, draft.size, payload=draft.payload)
            bodies.append(body)
            body.end(draft.meta, draft.complete_through_ms)
            continue
        for block in draft.blocks:
            if not bodies or not bodies[-1].has_room_for(block):
                bodies.append(PendingBody(PayloadKind.FRAMES))
            bodies[-1].add(block)
        if not bodies or bodies[-1].kind is not PayloadKind.FRAMES:
            bodies.append(PendingBody(PayloadKind.FRAMES))
        bodies[-1].end(draft.meta, draft.complete_through_ms)
    return bodies
