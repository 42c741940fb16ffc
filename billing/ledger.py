"""Double entry: every invoice books postings that sum to zero. Debits are positive, credits negative. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from billing.corrections import CORRECTION, CREDIT, THRESHOLD_CREDIT
from billing.draft import COMMITMENT, Draft
from billing.pricing.credits import Draw
from billing.thresholds import THRESHOLD
from kernel.money import Money, minor_units_of, total


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount on an account."""

    account: str
    amount: Money

    @property
    def minor_units(self) -> int:
        return minor_units_of(self.amount)


def postings_of(draft: Draft) -> tuple[Posting, ...]:
    """The entry of an invoice: the customer owes the gross; revenue and tax are credited. Zeros are left out.

    A commitment is a liability until its capacity has been available: it is credited to deferred revenue.
    """
    customer = draft.agreed.contract.organization
    postings = [
        Posting(f"receivable:{customer}", draft.gross),
        *(Posting(_revenue_account(line.kind), -line.amount) for line in draft.lines),
        *(Posting(f"tax-payable:{group.category}:{group.rate:f}", -group.amount) for group in draft.taxes),
    ]
    return balanced(posting for posting in postings if posting.amount.amount)


def draw_postings(organization: str, drawn: Iterable[Draw]) -> tuple[Posting, ...]:
    """The entry of prepaid credits that pay a document: what was owed to the customer pays what it owes."""
    entry = []
    for one in drawn:
        entry += [
            Posting(f"prepaid:{organization}", one.amount),
            Posting(f"receivable:{organization}", -one.amount),
        ]
    return balanced(entry)


def payment_postings(organization: str, amount: Money) -> tuple[Posting, ...]:
    """The entry of a payment."""
    return balanced((Posting("bank", amount), Posting(f"receivable:{organization}", -amount)))


def refund_postings(organization: str, amount: Money) -> tuple[Posting, ...]:
    """The entry of a pay-out: what was to the customer's credit left the bank."""
    return balanced((Posting(f"receivable:{organization}", amount), Posting("bank", -amount)))


def offset_postings(organization: str, amount: Money) -> tuple[Posting, ...]:
    """The entry on the document that pays another (`amount` positive), and on the other one (negative)."""
    return balanced((Posting(f"receivable:{organization}", amount), Posting(f"offset:{organization}", -amount)))


def grant_postings(organization: str, amount: Money) -> tuple[Posting, ...]:
    """The entry of prepaid credits that were bought: money came in that is owed to the customer."""
    return balanced((Posting("bank", amount), Posting(f"prepaid:{organization}", -amount)))


def balanced(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """The postings, if they sum to zero. Raises ValueError."""
    entry = tuple(postings)
    if entry and total((posting.amount for posting in entry), entry[0].amount.currency).amount:
        raise ValueError(f"postings that do not sum to zero: {entry}")
    return entry


def _revenue_account(kind: str) -> str:
    """Corrections and credits go where the line they change went."""
    base = kind.removeprefix(f"{CORRECTION}:").removeprefix(f"{CREDIT}:")
    if base.startswith(THRESHOLD_CREDIT):
        base = THRESHOLD
    return "deferred-revenue:commitment" if base == COMMITMENT else f"revenue:{base}"
