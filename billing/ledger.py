"""Double entry: every invoice books postings that sum to zero. Debits are positive, credits negative. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from billing.draft import COMMITMENT, Draft
from kernel.money import Money, total


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount on an account."""

    account: str
    amount: Money

    @property
    def minor_units(self) -> int:
        return int(self.amount.amount.scaleb(self.amount.currency.exponent))


def postings_of(draft: Draft) -> tuple[Posting, ...]:
    """The entry of an invoice: the customer owes the gross; revenue and tax are credited. Zeros are left out.

    A commitment is a liability until its capacity has been available: it is credited to deferred revenue.
    """
    customer = draft.agreed.contract.organization
    postings = [
        Posting(f"receivable:{customer}", draft.gross),
        *(Posting(_revenue_account(draft, line.kind), -line.amount) for line in draft.lines),
        *(Posting(f"tax-payable:{group.category}:{group.rate:f}", -group.amount) for group in draft.taxes),
    ]
    return balanced(posting for posting in postings if posting.amount.amount)


def balanced(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """The postings, if they sum to zero. Raises ValueError."""
    entry = tuple(postings)
    if entry and total((posting.amount for posting in entry), entry[0].amount.currency).amount:
        raise ValueError(f"postings that do not sum to zero: {entry}")
    return entry


def _revenue_account(draft: Draft, kind: str) -> str:
    return "deferred-revenue:commitment" if draft.kind == COMMITMENT else f"revenue:{kind}"
