"""How much of the period the usage rests on: said on each line, so that a gap never passes for zero usage."""

from __future__ import annotations

from fractions import Fraction

from billing.contract import Contract
from billing.rating.fact import Fact, hours_fact, render_hours, render_vcpu_hours, text_fact, usage_fact
from billing.rating.line import RatingInput
from kernel.quantity import render_fraction
from metering.usage.filling import Filled


def coverage_facts(rated: RatingInput, filled: Filled) -> tuple[Fact, ...]:
    """Time in the period, observed, missing and estimated, and which revisions were read."""
    usage = rated.usage
    hours_with_rows = str(usage.rows.sums.hours)
    return (
        hours_fact("period_ms", "Length of the period", rated.period.length_ms),
        text_fact("hours_with_usage_rows", "Hours with usage", hours_with_rows),
        hours_fact("observed_ms", "Time observed", usage.observed_ms, "component-hours"),
        hours_fact("missing_ms", "Time without data", usage.missing_ms, "component-hours"),
        *_estimated(rated.contract, filled),
        text_fact("revision_digest", "Usage revisions, sha256", usage.revision_digest),
    )


def gap_rule_text(contract: Contract) -> str:
    """The policy with its bound, as printed."""
    return f"{contract.gap_policy}, at most {contract.gap_hours} hours of a gap"


def coverage_notes(rated: RatingInput, filled: Filled) -> tuple[str, ...]:
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
            f"components existed). {_by_policy(rated, filled)}"
        )
    return tuple(notes)


def _by_policy(rated: RatingInput, filled: Filled) -> str:
    if rated.contract.gap_policy == "not-billed":
        return "By the contract's gap policy this time is not billed; the usage in it is unknown, not zero."
    rest = rated.usage.missing_ms - filled.estimated_ms
    return (
        f"By the contract's gap policy ({gap_rule_text(rated.contract)}) {render_hours(filled.estimated_ms)} "
        f"component-hours of it are estimated, with {render_vcpu_hours(filled.milli_vcpu_ms)} "
        f"vCPU-hours; {render_hours(rest)} component-hours are not billed: the usage in them is unknown, not zero."
    )


def _estimated(contract: Contract, filled: Filled) -> tuple[Fact, ...]:
    if contract.gap_policy == "not-billed":
        return ()
    return (
        text_fact("gap_policy", "Gap policy", gap_rule_text(contract)),
        hours_fact("estimated_ms", "Time estimated", filled.estimated_ms, "component-hours"),
        usage_fact("estimated_milli_vcpu_ms", "Of the usage, estimated", filled.milli_vcpu_ms),
    )
