"""How much of the period the usage rests on: said on each line, so that a gap never passes for zero usage."""

from __future__ import annotations

from fractions import Fraction

from billing.rating.fact import Fact, hours_fact, render_hours, text_fact
from billing.rating.line import RatingInput
from kernel.quantity import render_fraction


def coverage_facts(rated: RatingInput) -> tuple[Fact, ...]:
    """Time in the period, observed and missing, and which revisions were read."""
    usage = rated.usage
    hours_with_rows = str(len({row.hour for row in usage.rows}))
    return (
        hours_fact("period_ms", "Length of the period", rated.period.length_ms),
        text_fact("hours_with_usage_rows", "Hours with usage", hours_with_rows),
        hours_fact("observed_ms", "Time observed", usage.observed_ms, "component-hours"),
        hours_fact("missing_ms", "Time without data", usage.missing_ms, "component-hours"),
        text_fact("revision_digest", "Usage revisions, sha256", usage.revision_digest),
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
