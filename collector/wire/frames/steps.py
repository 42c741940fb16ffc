"""How a block relates to what a reader knows of its stream."""

from __future__ import annotations

from enum import Enum

import numpy as np

from collector.wire.errors import WireError
from collector.wire.frames.body import Head
from collector.wire.frames.dictionary import CHECK_BYTES
from collector.wire.frames.errors import OldState, UnknownState
from collector.wire.frames.layout import malformed
from collector.wire.frames.model import Bools
from collector.wire.frames.sections import Patch


class Step(Enum):
    """What a block is to a state."""

    NEXT = "it leads on from here"
    SAME = "its state is the one that is known: its values can be read"
    OLD = "it was applied before, and the state has moved on"


def step_of(head: Head, version: int, name: bytes) -> Step:
    """How `head` relates to a stream's state (version 0: none is known). Raises UnknownState.

    A root leads on only forward, also one that is sent to resynchronise: a push that was delayed and comes twice
    can't turn the state back, from where what comes next could not be read.
    """
    if head.is_root:
        if head.version > version:
            return Step.NEXT
        return Step.SAME if (head.version, head.name) == (version, name) else Step.OLD
    if version and head.version == version and head.check == name[:CHECK_BYTES]:
        return Step.SAME
    if version and head.version < version:
        return Step.OLD
    if version and head.changes_state and head.before == version and head.before_check == name[:CHECK_BYTES]:
        return Step.NEXT
    raise unknown(head, version)


def unknown(head: Head, version: int) -> UnknownState:
    """The state that a block needs is not the one that is known."""
    if head.version < version or head.is_root:
        return OldState(f"stream {head.stream}: the state has moved on from version {head.version} to {version}")
    known = f"version {version} is known" if version else "the stream is not known"
    return UnknownState(f"stream {head.stream}: the block needs version {head.before}, {known}; send roots")


def check_patch(patch: Patch, live: Bools) -> None:
    """Whether a patch fits the live slots; `live` may be of any length. Raises WireError."""
    freed, born = patch.freed, patch.born
    if len(freed) and (int(freed[-1]) >= len(live) or not live[freed].all()):
        raise _misfit("frees a slot that is free")
    inside = born[: np.searchsorted(born, len(live))]
    taken = inside[live[inside]]
    if len(taken) and not np.isin(taken, freed).all():
        raise _misfit("fills a slot that is taken")


def _misfit(found: str) -> WireError:
    return malformed("patch", found, "changes that fit the dictionary")
