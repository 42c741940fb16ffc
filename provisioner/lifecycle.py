"""The lifecycle of a cluster as a table: state and event give the next state. Nothing here does I/O.

The states are the published ones of the service (UPGRADING is not offered yet). Three kinds of event: what a
person asks for, how the running operation ended, and what was observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from kernel.errors import Conflict


class State(StrEnum):
    """What a cluster is. Declared only after it was observed."""

    CREATING = "CREATING"
    RUNNING = "RUNNING"
    MODIFYING = "MODIFYING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    RESUMING = "RESUMING"
    DELETING = "DELETING"
    DELETED = "DELETED"
    FAILED = "FAILED"


class Operation(StrEnum):
    """What a person may ask for."""

    CREATE = "create"
    SCALE = "scale"
    SUSPEND = "suspend"
    RESUME = "resume"
    DELETE = "delete"


class Outcome(StrEnum):
    """How an operation ended, or what was seen without one."""

    SUCCEEDED = "succeeded"  # the desired state was observed
    REVERTED = "reverted"  # it failed, and the former state was observed again
    BROKEN = "broken"  # it failed, and the former state is gone
    LOST = "lost"  # a running server was seen dead


class IllegalTransition(Conflict):
    """The state does not admit the event; the message lists what it admits."""


Event = Operation | Outcome

TRANSITIONS: Mapping[tuple[State | None, Event], State] = {
    (None, Operation.CREATE): State.CREATING,
    (State.CREATING, Outcome.SUCCEEDED): State.RUNNING,
    (State.CREATING, Outcome.BROKEN): State.FAILED,
    (State.RUNNING, Operation.SCALE): State.MODIFYING,
    (State.RUNNING, Operation.SUSPEND): State.SUSPENDING,
    (State.RUNNING, Operation.DELETE): State.DELETING,
    (State.RUNNING, Outcome.LOST): State.FAILED,
    (State.MODIFYING, Outcome.SUCCEEDED): State.RUNNING,
    (State.MODIFYING, Outcome.REVERTED): State.RUNNING,
    (State.MODIFYING, Outcome.BROKEN): State.FAILED,
    (State.SUSPENDING, Outcome.SUCCEEDED): State.SUSPENDED,
    (State.SUSPENDING, Outcome.REVERTED): State.RUNNING,
    (State.SUSPENDING, Outcome.BROKEN): State.FAILED,
    (State.SUSPENDED, Operation.RESUME): State.RESUMING,
    (State.SUSPENDED, Operation.DELETE): State.DELETING,
    (State.RESUMING, Outcome.SUCCEEDED): State.RUNNING,
    (State.RESUMING, Outcome.REVERTED): State.SUSPENDED,
    (State.RESUMING, Outcome.BROKEN): State.FAILED,
    (State.FAILED, Operation.RESUME): State.RESUMING,
    (State.FAILED, Operation.DELETE): State.DELETING,
    (State.DELETING, Outcome.SUCCEEDED): State.DELETED,
    (State.DELETING, Outcome.BROKEN): State.FAILED,
}

IN_PROGRESS = frozenset({State.CREATING, State.MODIFYING, State.SUSPENDING, State.RESUMING, State.DELETING})


def transition(state: State | None, event: Event) -> State:
    """The state after `event`. Raises IllegalTransition with the list of what `state` admits."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        admitted = ", ".join(allowed(state)) or "nothing"
        raise IllegalTransition(f"a cluster in {state} does not admit {event}; it admits: {admitted}") from None


def allowed(state: State | None) -> list[str]:
    """The events that `state` admits, by name."""
    return sorted(event.value for known, event in TRANSITIONS if known == state)


def allowed_operations(state: State | None) -> list[str]:
    """What a person may ask for in `state`; empty while an operation runs."""
    return sorted(event.value for known, event in TRANSITIONS if known == state and isinstance(event, Operation))
