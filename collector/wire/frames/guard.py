"""What a gateway keeps of a group, to pass frames on without opening their columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collector.wire.frames.body import BlockView, Body
from collector.wire.frames.layout import too_large
from collector.wire.frames.model import Bools, FrameLimits
from collector.wire.frames.steps import Step, check_patch, step_of, unknown


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    name: bytes
    live: Bools  # never written: a patch makes another one
    series: int


_NOTHING = _Known(0, b"", np.zeros(0, np.bool_), 0)


class GroupGuard:
    """State of ONE group: versions, names and live slots of its streams; no bases, no entries."""

    def __init__(self, limits: FrameLimits | None = None) -> None:
        self._limits = limits or FrameLimits()
        self._streams: dict[int, _Known] = {}
        self.slots = 0  # of all streams together
        self.series = 0  # live ones

    def check(self, body: Body) -> None:
        """Whether a reader of this group could read `body`; changes nothing.

        Raises UnknownState (409), WireError (400), BodyTooLarge (413, the group would hold too much).
        """
        self._changed(body)

    def series_with(self, body: Body) -> int:
        """Live series once `body` is applied. Raises as `check` does."""
        changed = self._changed(body)
        return self.series + sum(
            known.series - self._streams.get(stream, _NOTHING).series for stream, known in changed.items()
        )

    def apply(self, body: Body) -> None:
        """Take in what `check` allowed, after the append was acknowledged. Raises as `check` does."""
        changed = self._changed(body)
        for stream, known in changed.items():
            before = self._streams.get(stream, _NOTHING)
            self.slots += len(known.live) - len(before.live)
            self.series += known.series - before.series
            self._streams[stream] = known

    def _changed(self, body: Body) -> dict[int, _Known]:
        changed: dict[int, _Known] = {}
        for view in body.blocks:
            known = changed.get(view.stream) or self._streams.get(view.stream, _NOTHING)
            following = _follow(known, view, self._limits.max_slots)
            if following is not known:
                changed[view.stream] = following
        if changed:
            self._check_size(changed)
        return changed

    def _check_size(self, changed: dict[int, _Known]) -> None:
        limits = self._limits
        slots = self.slots + sum(
            len(known.live) - len(self._streams.get(stream, _NOTHING).live) for stream, known in changed.items()
        )
        streams = len(self._streams.keys() | changed.keys())
        if slots > limits.max_slots or streams > limits.max_streams:
            allowed = f"at most {limits.max_slots} slots and {limits.max_streams} streams"
            raise too_large("group", f"{slots} slots, {streams} streams", allowed)


def _follow(known: _Known, view: BlockView, limit: int) -> _Known:
    head = view.head
    step = step_of(head, known.version, known.name)
    if step is Step.SAME:
        return known
    if step is Step.OLD and not head.is_root:
        raise unknown(head, known.version)
    if head.is_root:  # an old one too: the sender starts again from here
        known = _NOTHING
    if view.patch is None:
        return _Known(head.version, known.name, known.live, known.series)
    patch = view.patch
    check_patch(patch, known.live)
    capacity = max(len(known.live), int(patch.born[-1]) + 1 if len(patch.born) else 0)
    if capacity > limit:
        raise too_large("group", f"slot {capacity - 1}", f"at most {limit} slots")
    live = np.zeros(capacity, np.bool_)
    live[: len(known.live)] = known.live
    live[patch.freed] = False
    live[patch.born] = True
    return _Known(head.version, head.name, live, known.series - len(patch.freed) + len(patch.born))
