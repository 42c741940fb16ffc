"""What looks at several lines: bounds of spend, discounts, prepaid credits, true-ups of capacity."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.pricing.credits import Grant, after, draw, expired
from billing.pricing.discounts import Discount, reductions
from billing.pricing.reconciliation import annual_true_up, quarterly_true_up
from billing.pricing.spend import SpendCommitment, commitment_period, maximum_line, minimum_line, share_of_days
from kernel.money import Money, currency, total

USD = currency("USD")
CENTS = st.integers(0, 1_000_000).map(lambda cents: Money(Decimal(cents).scaleb(-2), USD))
LINES = st.lists(
    st.integers(-5_000, 1_000_000).map(lambda cents: Money(Decimal(cents).scaleb(-2), USD)), max_size=8
)
ZERO = Money.zero(USD)


@settings(max_examples=60, deadline=None)
@given(spent=CENTS, bound=st.integers(0, 1_000_000), days=st.integers(1, 31))
def test_a_bound_is_met_exactly_and_never_twice(spent: Money, bound: int, days: int) -> None:
    least, share = Fraction(bound, 100), Fraction(days, 31)
    whole = Money.round_half_up(least * share, USD)
    up, down = minimum_line(spent, least, share), maximum_line(spent, least, share)
    assert ZERO in (up, down)
    assert spent + up == max(spent, whole)
    assert spent + down == min(spent, whole)


@settings(max_examples=60, deadline=None)
@given(lines=LINES, percent=st.integers(0, 100), amount=st.integers(0, 2_000_000))
def test_a_discount_never_exceeds_its_lines(lines: list[Money], percent: int, amount: int) -> None:
    share = Discount.model_validate({"discount": "launch", "description": "Launch", "percent": str(percent)})
    fixed = Discount.model_validate(
        {"discount": "launch", "description": "Launch", "amount": f"{Decimal(amount).scaleb(-2):f}"}
    )
    for discount in (share, fixed):
        for line, off in zip(lines, reductions(discount, lines), strict=True):
            assert off == ZERO or (off < ZERO and not (line + off < ZERO))
    positive = total((line for line in lines if line > ZERO), USD)
    offered = Money(Decimal(amount).scaleb(-2), USD)
    assert total(reductions(fixed, lines), USD) == -min(positive, offered), "the allocation preserves the total"


GRANTS = st.lists(
    st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 3), CENTS), max_size=6
).map(lambda rows: tuple(Grant(f"g{i}", a, e, p, balance) for i, (a, e, p, balance) in enumerate(rows)))


@settings(max_examples=100, deadline=None)
@given(grants=GRANTS, due=CENTS, now=st.integers(0, 40))
def test_credits_are_drawn_in_order_and_nothing_is_lost(grants: tuple[Grant, ...], due: Money, now: int) -> None:
    draws, left = draw(grants, due, now)
    assert total((one.amount for one in draws), USD) + left == due
    remaining = after(grants, draws)
    before, now_held = (total((grant.balance for grant in held), USD) for held in (grants, remaining))
    assert before - now_held == due - left
    usable = {grant.grant for grant in grants if grant.granted_ms <= now and (grant.expires_ms or now + 1) > now}
    assert {one.grant for one in draws} <= usable
    drawn = [next(grant for grant in grants if grant.grant == one.grant) for one in draws]
    assert [grant.priority for grant in drawn] == sorted(grant.priority for grant in drawn)
    if left != ZERO:
        assert all(grant.balance == ZERO for grant in remaining if grant.grant in usable)
    assert draw(tuple(reversed(grants)), due, now) == (draws, left), "the order of the grants does not matter"


def test_what_expires_first_is_drawn_first_and_what_is_left_lapses() -> None:
    grants = (
        Grant("for-ever", 0, None, 0, Money.parse("5.00", USD)),
        Grant("late", 0, 20, 0, Money.parse("5.00", USD)),
        Grant("soon", 0, 10, 0, Money.parse("5.00", USD)),
        Grant("preferred", 5, 30, -1, Money.parse("1.00", USD)),
    )
    draws, due = draw(grants, Money.parse("8.00", USD), 6)
    assert [(one.grant, f"{one.amount.amount}") for one in draws] == [
        ("preferred", "1.00"),
        ("soon", "5.00"),
        ("late", "2.00"),
    ]
    assert due == ZERO
    left = after(grants, draws)
    assert [one.grant for one in expired(left, 20)] == ["late"]
    assert draw(left, Money.parse("-3.00", USD), 6) == ((), Money.parse("-3.00", USD))
    with pytest.raises(ValueError, match="overdrawn"):
        after(left, draws)


@settings(max_examples=60, deadline=None)
@given(start=st.dates(date(2024, 1, 1), date(2027, 12, 31)), days=st.integers(0, 2000))
def test_the_periods_of_a_commitment_tile_the_term(start: date, days: int) -> None:
    day = start + timedelta(days=days)
    for every in ("month", "quarter", "year"):
        commitment = SpendCommitment.model_validate({"amount": "100", "every": every})
        first, end = commitment_period(commitment, start, day)
        assert first <= day < end
        following, _ = commitment_period(commitment, start, end)
        assert following == end, "the next begins where this one ends"
        assert share_of_days(first, end, first, end) == 1
        middle = first + (end - first) / 2
        assert share_of_days(first, middle, first, end) + share_of_days(middle, end, first, end) == 1


def test_quarters_buy_for_what_remains_and_the_year_for_the_whole() -> None:
    price, licensed = Fraction(1200), Fraction(100)
    found = quarterly_true_up((Fraction(110), Fraction(105), Fraction(130), Fraction(140)), licensed, price)
    assert [one.part.amount for one in found] == [10 * 900, 0, 20 * 300, 0]
    assert found[-1].licensed == 140
    whole = annual_true_up(Fraction(140), licensed, price)
    assert whole.part.amount == 40 * 1200
    assert whole.licensed == 140
    assert annual_true_up(Fraction(90), licensed, price).part.amount == 0
