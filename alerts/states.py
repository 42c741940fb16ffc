"""The life of an alert as a transition table. Pure.

inactive --true--> pending --held for `for`--> firing --false (longer than keep_firing_for)--> resolved
pending --false--> inactive          firing --false, kept--> firing          resolved --true--> a new life
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Observation(StrEnum):
    """What one evaluation says of an alert."""

    TRUE = "true"  # the condition holds, not yet for as long as `for`
    HELD = "held"  # it has held for as long as `for`
    FALSE = "false"  # it does not hold, and keep_firing_for is over
    KEPT = "kept"  # it does not hold, but keep_firing_for is not over


TRANSITIONS: dict[tuple[State, Observation], State] = {
    (State.INACTIVE, Observation.TRUE): State.PENDING,
    (State.INACTIVE, Observation.HELD): State.FIRING,
    (State.INACTIVE, Observation.FALSE): State.INACTIVE,
    (State.INACTIVE, Observation.KEPT): State.INACTIVE,
    (State.PENDING, Observation.TRUE): State.PENDING,
    (State.PENDING, Observation.HELD): State.FIRING,
    (State.PENDING, Observation.FALSE): State.INACTIVE,
    (State.PENDING, Observation.KEPT): State.INACTIVE,
    (State.FIRING, Observation.TRUE): State.FIRING,
    (State.FIRING, Observation.HELD): State.FIRING,
    (State.FIRING, Observation.FALSE): State.RESOLVED,
    (State.FIRING, Observation.KEPT): State.FIRING,
    (State.RESOLVED, Observation.TRUE): State.PENDING,
    (State.RESOLVED, Observation.HELD): State.FIRING,
    (State.RESOLVED, Observation.FALSE): State.RESOLVED,
    (State.RESOLVED, Observation.KEPT): State.RESOLVED,
}

ANNOUNCED = {
    (State.INACTIVE, State.FIRING),
    (State.PENDING, State.FIRING),
    (State.RESOLVED, State.FIRING),
    (State.FIRING, State.RESOLVED),
}
"""The steps that receivers are told of."""
