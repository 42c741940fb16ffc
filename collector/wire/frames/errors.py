"""Why frames are refused, beside what every push is refused for.

kernel.errors.Refuse
└── kernel.errors.Conflict
    └── UnknownState     the frames build on state that this reader doesn't have: 409, send roots
        └── OldState     their state was here before: a push that came again, or too late
"""

from __future__ import annotations

from collections.abc import Sequence

from collector.wire.frames.model import Rows
from kernel.errors import Conflict


class UnknownState(Conflict):
    """A block builds on a dictionary or on bases that are not known here. Nothing is wrong with it: send roots.

    `rows` are those of the body's other blocks, for a reader that makes do with less than all.
    """

    rows: Sequence[Rows] = ()


class OldState(UnknownState):
    """The state that a block leads to or builds on was here, and has moved on: it was read before."""
