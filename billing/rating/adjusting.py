"""Lines that look at the other lines: least and most spend, spend commitments, discounts. In this order, untaxed.

A bound or discount over lines of several taxes is split over them, so that each tax is of what is really charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from fractions import Fraction

from billing.contract import OVERAGE
from billing.pricing.discounts import Discount, reductions
from billing.pricing.spend import commitment_period, maximum_line, minimum_line, share_of_days
from billing.rating.charges import CHARGE
from billing.rating.fact import Fact, text_fact
from billing.rating.line import Line, Priced, Rate, RatingInput
from billing.tax import TaxRule
from kernel.money import Money, total
from kernel.window import parse_zone

MINIMUM, MAXIMUM, TRUE_UP, DISCOUNT = "minimum-spend", "maximum-spend", "commitment-true-up", "discount"


def spend_lines(rated: RatingInput, lines: Sequence[Line]) -> Iterator[Line]:
    """What brings the sum of the charges to a bound of the contract, if it is outside."""
    spend, spent = rated.contract.spend, _spent(rated, lines)
    if spend is None:
        return
    share = _share_of_month(rated)
    if spend.least is not None:
        yield from _split(rated, lines, MINIMUM, "Minimum spend", minimum_line(spent, Fraction(spend.least), share))
    if spend.most is not None:
        yield from _split(rated, lines, MAXIMUM, "Maximum spend", maximum_line(spent, Fraction(spend.most), share))


def true_up_lines(rated: RatingInput, lines: Sequence[Line]) -> Iterator[Line]:
    """What a spend commitment leaves unspent, in the billed period in which its own period ends."""
    commitment = rated.contract.spend_commitment
    if commitment is None:
        return
    _, end = _days(rated)
    start, due = commitment_period(commitment, rated.contract.term.start, end - timedelta(days=1))
    due = min(due, rated.contract.term.end)
    if end != due:
        return
    _, whole = commitment_period(commitment, rated.contract.term.start, start)
    spent = _spent(rated, lines) + rated.spent_before
    missing = minimum_line(spent, Fraction(commitment.amount), share_of_days(start, due, start, whole))
    text = f"Commitment of the {commitment.every} from {start}, unspent"
    yield from _split(rated, lines, TRUE_UP, text, missing)


def discount_lines(rated: RatingInput, lines: Sequence[Line]) -> Iterator[Line]:
    """One line for each discount of the period and tax."""
    first, _ = _days(rated)
    left = {index: line.amount for index, line in enumerate(lines) if not line.informational}
    for discount in rated.contract.discounts:
        if not (discount.start or first) <= first < (discount.end or date.max):
            continue
        chosen = [index for index in left if _is_for(discount, lines[index])]
        taken = reductions(discount, [left[index] for index in chosen])
        by_tax: dict[TaxRule | None, Money] = {}
        for index, off in zip(chosen, taken, strict=True):
            left[index] += off
            rule = lines[index].tax
            by_tax[rule] = by_tax.get(rule, Money.zero(rated.currency)) + off
        for rule, amount in by_tax.items():
            if amount.amount:
                yield _sum_line(rated, f"{DISCOUNT}:{discount.discount}", discount.description, amount, rule)


def _is_for(discount: Discount, line: Line) -> bool:
    name = line.kind.removeprefix(f"{CHARGE}:")
    return not discount.charges or name in discount.charges


def _spent(rated: RatingInput, lines: Iterable[Line]) -> Money:
    counted = (line.amount for line in lines if line.kind == OVERAGE or line.kind.startswith(f"{CHARGE}:"))
    return total(counted, rated.currency)


def _split(rated: RatingInput, lines: Sequence[Line], kind: str, description: str, amount: Money) -> Iterator[Line]:
    """`amount` over the taxes of what was charged, by its sums; all at the contract's tax when nothing was."""
    if not amount.amount:
        return
    sums: dict[TaxRule | None, Money] = {}
    for line in lines:
        if not line.informational and Money.zero(rated.currency) < line.amount:
            sums[line.tax] = sums.get(line.tax, Money.zero(rated.currency)) + line.amount
    if not sums:
        yield _sum_line(rated, kind, description, amount, rated.contract.tax)
        return
    weights = [int(part.amount.scaleb(rated.currency.exponent)) for part in sums.values()]
    for rule, part in zip(sums, amount.split(weights), strict=True):
        if part.amount:
            yield _sum_line(rated, kind, description, part, rule)


def _sum_line(rated: RatingInput, kind: str, description: str, amount: Money, tax: TaxRule | None) -> Line:
    priced = Priced(
        Fraction(1), "sum", Rate(Fraction(amount.amount), "computed from the lines above"), _facts(rated)
    )
    exact, derivation = priced.amount(rated.currency)
    return Line(kind, description, rated.period, exact, derivation, tax)


def _facts(rated: RatingInput) -> tuple[Fact, ...]:
    if not rated.spent_before.amount:
        return ()
    return (text_fact("spent_before", "Spent before in the commitment's period", str(rated.spent_before)),)


def _days(rated: RatingInput) -> tuple[date, date]:
    zone = parse_zone(rated.contract.time_zone)
    return rated.period.start.astimezone(zone).date(), rated.period.end.astimezone(zone).date()


def _share_of_month(rated: RatingInput) -> Fraction:
    first, end = _days(rated)
    month = first.replace(day=1)
    return share_of_days(first, end, month, (month + timedelta(days=32)).replace(day=1))
