"""The life of an issued document: a transition table, and what its events add up to. Pure.

A month is open until it ends, then in grace until `grace_hours` have passed; both are of the clock alone.
From the number on, events are appended and the state follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from billing.errors import WrongState
from kernel.window import HOUR_MS, Window


class Phase(StrEnum):
    """Of a period that has no final invoice."""

    OPEN = "open"  # it goes on
    GRACE = "grace"  # it has ended; late usage is waited for
    DUE = "due"  # it can be finalized once its hours are sealed


class State(StrEnum):
    """Of an issued document."""

    FINAL = "final"
    SENT = "sent"
    PAID = "paid"  # nothing is open any more: paid, prepaid or credited
    VOID = "void"


class Event(StrEnum):
    """What can happen to an issued document."""

    SEND = "send"
    PAY = "pay"  # a payment, whole or in part
    REFUND = "refund"  # what was to the customer's credit was paid out, whole or in part
    OFFSET = "offset"  # it pays another invoice; on both of them
    SETTLE = "settle"  # nothing remained open: the event beside the payment, credit or draw that did it
    REOPEN = "reopen"  # a credit note that had settled it became void: something is open again
    VOID = "void"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.FINAL: {
        Event.SEND: State.SENT,
        Event.PAY: State.FINAL,
        Event.REFUND: State.FINAL,
        Event.OFFSET: State.FINAL,
        Event.SETTLE: State.PAID,
        Event.VOID: State.VOID,
    },
    State.SENT: {
        Event.SEND: State.SENT,  # a copy, to another address
        Event.PAY: State.SENT,
        Event.REFUND: State.SENT,
        Event.OFFSET: State.SENT,
        Event.SETTLE: State.PAID,
        Event.VOID: State.VOID,
    },
    State.PAID: {
        Event.SEND: State.PAID,
        Event.REFUND: State.PAID,
        Event.OFFSET: State.PAID,
        Event.REOPEN: State.FINAL,  # that it was sent before stays among its events
        Event.VOID: State.VOID,  # only what was settled without money: `Receivables.void`
    },
    State.VOID: {},
}


@dataclass(frozen=True, slots=True)
class LifeEvent:
    """One event of one document. `minor_units` is what it paid of it, negative what it gave away, else None."""

    event: Event
    at_ms: int
    actor: str
    minor_units: int | None = None
    reference: str = ""  # of the payment, the message or the reason; of an offset the other document first


def phase_of(period: Window, grace_hours: int, now_ms: int) -> Phase:
    """Where a period without a final invoice stands."""
    if now_ms < period.end_ms:
        return Phase.OPEN
    return Phase.GRACE if now_ms < period.end_ms + grace_hours * HOUR_MS else Phase.DUE


def state_after(number: str, events: Iterable[LifeEvent]) -> State:
    """The state after these events. Raises WrongState for one that the table does not allow."""
    state = State.FINAL
    for event in events:
        state = follow(number, state, event.event)
    return state


def follow(number: str, state: State, event: Event) -> State:
    """The state after one more event. Raises WrongState."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        allowed = ", ".join(TRANSITIONS[state]) or "nothing"
        raise WrongState(f"{number} is {state}: {event} is not possible; possible: {allowed}")
    return following
