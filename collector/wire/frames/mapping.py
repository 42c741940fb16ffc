"""What the slots of a stream stand for, before or after a patch."""

from __future__ import annotations

from dataclasses import dataclass

from collector.wire.frames.model import Bools, Integers


@dataclass(frozen=True, slots=True)
class Mapping:
    """Series numbers by slot, and which slots are live."""

    numbers: Integers
    live: Bools

    def has(self, slots: Integers) -> bool:
        """Whether all `slots` are live."""
        return not len(slots) or (int(slots.max()) < len(self.live) and bool(self.live[slots].all()))
