"""Why frames are refused, beside what every push is refused for.

kernel.errors.Refuse
└── kernel.errors.Conflict
    └── UnknownState     the frames build on state that this reader doesn't have: 409, send roots
"""

from __future__ import annotations

from kernel.errors import Conflict


class UnknownState(Conflict):
    """A block builds on a dictionary or on bases that are not known here. Nothing is wrong with it: send roots."""
