"""The transition table, every cell of it."""

from __future__ import annotations

import itertools

import pytest

from provisioner.lifecycle import (
    IN_PROGRESS,
    TRANSITIONS,
    Event,
    IllegalTransition,
    Operation,
    Outcome,
    State,
    allowed,
    allowed_operations,
    transition,
)

EVENTS: list[Event] = [*Operation, *Outcome]
CELLS = list(itertools.product([None, *State], EVENTS))

# The table written a second time, by hand, as a person would read it.
ADMITTED = {
    None: "create=CREATING",
    State.CREATING: "succeeded=RUNNING broken=FAILED",
    State.RUNNING: "scale=MODIFYING suspend=SUSPENDING delete=DELETING lost=FAILED",
    State.MODIFYING: "succeeded=RUNNING reverted=RUNNING broken=FAILED",
    State.SUSPENDING: "succeeded=SUSPENDED reverted=RUNNING broken=FAILED",
    State.SUSPENDED: "resume=RESUMING delete=DELETING",
    State.RESUMING: "succeeded=RUNNING reverted=SUSPENDED broken=FAILED",
    State.DELETING: "succeeded=DELETED broken=FAILED",
    State.DELETED: "",
    State.FAILED: "resume=RESUMING delete=DELETING",
}


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_every_state_answers_every_event(state: State | None, event: Event) -> None:
    expected = dict(pair.split("=") for pair in ADMITTED[state].split())
    if event.value in expected:
        assert transition(state, event) == expected[event.value]
    else:
        with pytest.raises(IllegalTransition) as refused:
            transition(state, event)
        assert (", ".join(sorted(expected)) or "nothing") in str(refused.value)


def test_an_operation_can_always_end_well_and_can_always_break() -> None:
    for state in IN_PROGRESS:
        assert (state, Outcome.SUCCEEDED) in TRANSITIONS
        assert TRANSITIONS[state, Outcome.BROKEN] is State.FAILED
        assert allowed_operations(state) == [], "one operation at a time"


def test_every_operation_leads_into_progress_and_every_outcome_out_of_it() -> None:
    for (_, event), after in TRANSITIONS.items():
        assert (after in IN_PROGRESS) == isinstance(event, Operation)


def test_every_state_is_reachable_and_only_deleted_is_an_end() -> None:
    reached: set[State | None] = {None}
    while more := {after for (state, _), after in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == {None, *State}
    assert [state for state in State if not allowed(state)] == [State.DELETED]
