"""Each price model against an oracle that is written another way: unit by unit, or block by block."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.pricing import Measured, amount_of
from tests.billing.pricing.models import costs, model

PRICES = st.decimals("0", "999", places=4).map(lambda price: f"{price:f}")
HALVES = st.integers(0, 80).map(lambda halves: Fraction(halves, 2))
BOUNDS = st.lists(st.integers(1, 30), max_size=4, unique=True).map(sorted)


@st.composite
def tiered(draw: st.DrawFn) -> list[dict[str, Any]]:
    bounds: list[str | None] = [str(bound) for bound in draw(BOUNDS)]
    return [{"up_to": bound, "unit": draw(PRICES), "flat": draw(PRICES)} for bound in [*bounds, None]]


def halves_of(quantity: Fraction) -> list[Fraction]:
    """Ends of the half units that make up the quantity: each lies in one tier, as all bounds are whole."""
    return [Fraction(number, 2) for number in range(1, int(quantity * 2) + 1)]


def tier_at(tiers: list[dict[str, Any]], end: Fraction) -> int:
    return next(i for i, tier in enumerate(tiers) if tier["up_to"] is None or end <= Fraction(tier["up_to"]))


@settings(max_examples=60, deadline=None)
@given(tiers=tiered(), quantity=HALVES)
def test_graduated_is_the_sum_over_half_units_and_never_falls(
    tiers: list[dict[str, Any]], quantity: Fraction
) -> None:
    priced = model("graduated", tiers=tiers)
    places = [tier_at(tiers, end) for end in halves_of(quantity)]
    expected = sum((Fraction(tiers[place]["unit"]) / 2 for place in places), Fraction(0))
    expected += sum((Fraction(tiers[place]["flat"]) for place in set(places)), Fraction(0))
    assert costs(priced, quantity) == expected
    assert costs(priced, quantity + Fraction(1, 2)) >= expected, "more is never cheaper"
    if quantity:
        assert costs(priced, quantity) == amount_of(priced.price(Measured(quantity)))


@settings(max_examples=60, deadline=None)
@given(tiers=tiered(), quantity=HALVES)
def test_volume_and_flat_look_at_the_last_half_unit(tiers: list[dict[str, Any]], quantity: Fraction) -> None:
    flat = [{"up_to": tier["up_to"], "flat": tier["flat"]} for tier in tiers]
    if not quantity:
        assert (
            costs(model("volume", tiers=tiers), quantity)
            == costs(model("flat-per-tier", tiers=flat), quantity)
            == 0
        )
        return
    top = tiers[tier_at(tiers, quantity)]
    assert costs(model("volume", tiers=tiers), quantity) == quantity * Fraction(top["unit"]) + Fraction(top["flat"])
    assert costs(model("flat-per-tier", tiers=flat), quantity) == Fraction(top["flat"])


def blocks_by_counting(quantity: Fraction, size: Fraction) -> int:
    """Open a block whenever the ones open do not hold what is left."""
    count = 0
    while quantity > count * size:
        count += 1
    return count


@settings(max_examples=60, deadline=None)
@given(
    quantity=HALVES, size=st.integers(1, 14).map(lambda n: Fraction(n, 2)), free=st.integers(0, 50), price=PRICES
)
def test_packages_are_counted(quantity: Fraction, size: Fraction, free: int, price: str) -> None:
    priced = model(
        "package", size=f"{Decimal(size.numerator) / size.denominator:f}", price=price, free_units=str(free)
    )
    assert costs(priced, quantity) == blocks_by_counting(quantity - free, size) * Fraction(price)


@settings(max_examples=60, deadline=None)
@given(bounds=BOUNDS, rows=st.lists(st.tuples(st.integers(1, 9), PRICES), min_size=5, max_size=5), quantity=HALVES)
def test_blocks_of_all_tiers_and_of_the_top_one(
    bounds: list[int], rows: list[tuple[int, str]], quantity: Fraction
) -> None:
    tiers: list[dict[str, Any]] = [
        {"up_to": None if bound is None else str(bound), "size": str(size), "price": price}
        for bound, (size, price) in zip([*bounds, None], rows, strict=False)
    ]
    expected, floor = Fraction(0), Fraction(0)
    for tier in tiers:
        top = quantity if tier["up_to"] is None else min(quantity, Fraction(tier["up_to"]))
        expected += blocks_by_counting(max(Fraction(0), top - floor), Fraction(tier["size"])) * Fraction(
            tier["price"]
        )
        floor = max(floor, top)
    assert costs(model("block-tiers", mode="all-tiers", tiers=tiers), quantity) == expected
    reached = tiers[tier_at(tiers, quantity)]
    alone = blocks_by_counting(quantity, Fraction(reached["size"])) * Fraction(reached["price"])
    assert costs(model("block-tiers", mode="top-tier", tiers=tiers), quantity) == alone


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 100_000).map(lambda cents: Fraction(cents, 100)), max_size=12),
    percent=st.integers(0, 100),
    fee=st.integers(0, 5),
    free=st.integers(0, 4),
    bounds=st.lists(st.integers(0, 900), min_size=2, max_size=2).map(sorted),
)
def test_a_percentage_is_charged_event_by_event(
    values: list[Fraction], percent: int, fee: int, free: int, bounds: list[int]
) -> None:
    least, most = bounds
    text = {"percent": str(percent), "fixed_fee": str(fee), "min": str(least), "max": str(most)}
    priced = model("percentage", free_events=free, **text)
    charged = [
        sorted([Fraction(least), value * Fraction(percent, 100) + fee, Fraction(most)])[1]
        for value in values[free:]
    ]
    parts = priced.price(Measured(sum(values, Fraction(0)), events=tuple(values)))
    assert amount_of(parts) == sum(charged, Fraction(0))


@settings(max_examples=60, deadline=None)
@given(
    used=st.lists(HALVES, min_size=1, max_size=30),
    committed=st.integers(0, 40),
    factor=st.integers(1, 4),
    price=PRICES,
    true_up=st.booleans(),
)
def test_a_windowed_commitment_looks_at_each_hour(
    used: list[Fraction], committed: int, factor: int, price: str, true_up: bool
) -> None:
    text = {"committed": str(committed), "unit": price, "overage_factor": str(factor)}
    priced = model("windowed-commitment", true_up=true_up, **text)
    expected = Fraction(0)
    for quantity in used:
        paid = max(quantity, Fraction(committed)) if true_up else quantity
        expected += (min(paid, Fraction(committed)) + max(Fraction(0), quantity - committed) * factor) * Fraction(
            price
        )
    parts = priced.price(Measured(sum(used, Fraction(0)), windows=tuple(used)))
    assert amount_of(parts) == expected
    assert sum(part.amount for part in parts) == expected, "a reader adds the parts up to the amount"


@settings(max_examples=60, deadline=None)
@given(tiers=tiered(), billed=HALVES, whole=HALVES)
def test_a_correction_and_what_was_billed_make_the_whole_in_both_directions(
    tiers: list[dict[str, Any]], billed: Fraction, whole: Fraction
) -> None:
    for kind in ("graduated", "volume"):
        priced = model(kind, tiers=tiers)
        correction = costs(priced, whole) - costs(priced, billed)
        assert costs(priced, billed) + correction == costs(priced, whole)


def test_more_usage_may_be_a_credit_under_volume_and_is_not_clamped() -> None:
    priced = model("volume", tiers=[{"up_to": "100", "unit": "2"}, {"up_to": None, "unit": "1"}])
    assert costs(priced, 101) - costs(priced, 100) == -99
