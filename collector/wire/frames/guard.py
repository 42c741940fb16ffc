"""What a gateway keeps of a group, to pass frames on without opening their columns."""

from __future__ import annotations

from collector.wire.frames.body import Body
from collector.wire.frames.model import FrameLimits


class GroupGuard:
    """State of ONE group: names, capacities and versions of its streams; no bases, no entries."""

    def __init__(self, limits: FrameLimits | None = None) -> None:
        raise NotImplementedError

    @property
    def slots(self) -> int:
        """Slots of all streams together, to bound what is kept."""
        raise NotImplementedError

    @property
    def series(self) -> int:
        """Live series of all streams together."""
        raise NotImplementedError

    def check(self, body: Body) -> None:
        """Whether a reader of this group could read `body`; changes nothing.

        Raises UnknownState (409), WireError (400), BodyTooLarge (413, the group would hold too much).
        """
        raise NotImplementedError

    def apply(self, body: Body) -> None:
        """Take in what `check` allowed, after the append was acknowledged."""
        raise NotImplementedError
