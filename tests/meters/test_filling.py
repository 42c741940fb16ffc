"""Gap policies of catalogue meters: any row against a walk over its quarters."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from kernel.window import HOUR_MS, QUARTER_MS, Window
from metering.meters.filling import added_by_quarter
from metering.meters.hours import Piece
from metering.usage.model import GapRule

T0 = 1_780_272_000_000
WINDOW = Window(T0, T0 + 6 * HOUR_MS)
HALF = QUARTER_MS // 2

# A quarter of a row at one level: observed throughout, for its first half, or not at all; None: there is no row.
quarters = st.lists(st.none() | st.tuples(st.integers(0, 50), st.sampled_from([0, HALF, QUARTER_MS])), max_size=32)


@given(quarters, st.integers(1, 5), st.integers(0, 8))
def test_held_and_estimated_quarters_are_what_a_walk_says(
    row: list[tuple[int, int] | None], most: int, before: int
) -> None:
    """`before`: so many quarters of the row lie before the window."""
    pieces = {}
    for number, found in enumerate(row):
        if found is not None:
            level, missing_ms = found
            seen_ms = QUARTER_MS - missing_ms
            at = T0 + (number - before) * QUARTER_MS
            pieces[at] = Piece(level * seen_ms, level * missing_ms, seen_ms, missing_ms)
    expected = _filled(pieces, most)
    held, estimated = (
        added_by_quarter(pieces, WINDOW, GapRule(policy, most * HOUR_MS)) for policy in ("hold-last", "estimate")
    )
    assert held == {at: pieces[at].held_on for at in expected}
    assert estimated == {at: _estimate(pieces, at) for at in expected}


def _filled(pieces: dict[int, Piece], most: int) -> list[int]:
    found = []
    for at, piece in pieces.items():
        run = 0
        while (earlier := pieces.get(at - run * QUARTER_MS)) and earlier.missing_ms:
            run += 1
        if piece.missing_ms and run <= most * 4 and at in WINDOW:
            found.append(at)
    return found


def _estimate(pieces: dict[int, Piece], at: int) -> int:
    seen = {each // HOUR_MS for each, piece in pieces.items() if each in WINDOW and piece.observed_ms}
    hour = at // HOUR_MS
    near = {
        max((one for one in seen if one <= hour), default=None),
        min((one for one in seen if one >= hour), default=None),
    }
    counted = [
        piece for each, piece in pieces.items() if each in WINDOW and each // HOUR_MS in near and piece.observed_ms
    ]
    if not counted:
        return pieces[at].held_on
    mean = Fraction(sum(piece.quantity for piece in counted), sum(piece.observed_ms for piece in counted))
    return int(mean * pieces[at].missing_ms + Fraction(1, 2))
