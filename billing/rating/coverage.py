"""How much of the period the usage rests on: said on each line, so that a gap never passes for zero usage."""

from __future__ import annotations

from fractions import Fraction

from billing.rating.line import RatingInput
from kernel.quantity import render_fraction
from kernel.window import HOUR_MS


def coverage_facts(rated: RatingInput) -> tuple[tuple[str, str], ...]:
    """Hours and milliseconds observed and missing, and which revisions were read; all as strings."""
    usage = rated.usage
    return (
        ("hours_in_period", render_hours(rated.period.length_ms)),
        ("hours_with_usage_rows", str(len({row.hour for row in usage.rows}))),
        ("observed_ms", str(usage.observed_ms)),
        ("missing_ms", str(usage.missing_ms)),
        ("revision_digest", usage.revision_digest),
    )


def coverage_notes(rated: RatingInput) -> tuple[str, ...]:
    """What a reader must know about missing time, if there is any."""
    usage, notes = rated.usage, []
    if not usage.sealed:
        notes.append("Some hours of this period are not sealed yet: the usage can still change.")
    if not usage.rows:
        notes.append("No usage was reported for this period. That is not evidence of zero usage.")
    if usage.missing_ms:
        expected = usage.observed_ms + usage.missing_ms
        percent = Fraction(usage.missing_ms * 100, expected)
        share = render_fraction(percent, 2) if percent >= Fraction(1, 100) else "less than 0.01"
        notes.append(
            f"Data is missing for {render_hours(usage.missing_ms)} component-hours ({share} % of the time that "
            "components existed). By the contract's gap policy this time is not billed; "
            "the usage in it is unknown, not zero."
        )
    return tuple(notes)


def render_hours(milliseconds: int) -> str:
    """Hours with two decimals."""
    return render_fraction(Fraction(milliseconds, HOUR_MS), 2)
