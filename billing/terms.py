"""What a contract may say beyond price and commitment: capacity true-up and renewal. Their findings, too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field, StrictInt

from billing.fields import Day, DecimalText
from kernel.errors import Finding
from kernel.settings import Section

if TYPE_CHECKING:
    from billing.contract import Contract

MAX_UPLIFT = 100  # percent


class CapacityTrueUpTerms(Section):
    """The highest use above the commitment is bought when a period of the term's year ends, instead of minutes."""

    every: Literal["quarter", "year"] = Field(
        description="quarter: for the quarters that are left of the year; year: for the whole year"
    )


class Renewal(Section):
    """The contract goes on for another term, at its last commitment, unless notice is given in time."""

    years: StrictInt = Field(default=1, ge=1, le=5, description="length of the next term")
    notice_days: StrictInt = Field(
        default=60, ge=0, le=365, description="days before the end by which notice is given"
    )
    uplift_percent: DecimalText | None = Field(
        default=None, description="what the committed price rises by; none: it stays"
    )
    notice_given: Day | None = Field(
        default=None, description="the day on which notice was given; an amendment says it"
    )

    def last_day_of_notice(self, term_end: date) -> date:
        """The last day on which notice is in time."""
        return term_end - timedelta(days=self.notice_days)


def term_findings(contract: Contract, source: str) -> Iterator[Finding]:
    """What is wrong with these fields, each by itself and beside the others."""
    if contract.capacity_true_up is not None and not contract.on_demand:
        yield Finding(
            source, "on_demand", "false", "true, since the true-up is what bills use above the commitment"
        )
    if contract.trial:
        yield from _trial(contract, source)
    renewal = contract.renewal
    if renewal is None:
        return
    latest = renewal.last_day_of_notice(contract.term.end)
    if renewal.notice_given is not None and renewal.notice_given > latest:
        yield Finding(
            source, "renewal.notice_given", str(renewal.notice_given), f"at latest {latest}, in time for it"
        )
    if renewal.uplift_percent is not None and renewal.uplift_percent > MAX_UPLIFT:
        found = str(renewal.uplift_percent)
        yield Finding(source, "renewal.uplift_percent", found, f"at most {MAX_UPLIFT}")
    if renewal.uplift_percent is not None and contract.price is not None:
        allowed = "none with a price book: the next term has the book's price of its first day"
        yield Finding(source, "renewal.uplift_percent", str(renewal.uplift_percent), allowed)


def _trial(contract: Contract, source: str) -> Iterator[Finding]:
    """Nothing of a trial is billed, so that it can't say what would be."""
    for name in ("charges", "spend", "spend_commitment", "discounts", "threshold", "capacity_true_up", "renewal"):
        if getattr(contract, name):
            yield Finding(source, name, "given", "nothing in a trial, which is not billed")
