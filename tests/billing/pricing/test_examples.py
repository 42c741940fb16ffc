"""Worked examples of public price lists and test suites for the price models, with those known to be wrong."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.pricing.credits import Grant, after, draw
from billing.pricing.discounts import Discount, reductions
from billing.pricing.spend import minimum_line
from billing.tax import TaxRule, tax_groups
from kernel.money import Money, currency, total
from tests.billing.pricing.models import costs, model
from tests.golden import pricing_example

USD = currency("USD")


def dollars(text: str | int) -> Money:
    return Money(Decimal(text).quantize(Decimal("0.01")), USD)


def cents(count: int) -> Money:
    return Money(Decimal(count).scaleb(-2), USD)


def _tiers(example: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"up_to": None if tier["up_to"] is None else str(tier["up_to"]), "unit": tier["unit"]}
        for tier in example["inputs"]["tiers"]
    ]


def test_w02_the_same_tiers_as_volume_and_graduated() -> None:
    example = pricing_example("W02")
    for kind in ("volume", "graduated"):
        priced = model(kind, tiers=_tiers(example))
        found = {quantity: costs(priced, quantity) for quantity in example["inputs"]["quantities"]}
        assert found == {quantity: Fraction(amount) for quantity, amount in example["expected"][kind].items()}, kind
    volume = model("volume", tiers=_tiers(example))
    assert [costs(volume, quantity) for quantity in (5, 6, 10, 11)] == [35, 39, 65, 66]


def test_w07_packages() -> None:
    example = pricing_example("W07")
    a, b, c, d = (example["inputs"][part] for part in "abcd")
    found = []
    for free in a["free_units"]:
        priced = model("package", size=str(a["package_size"]), price=a["price"], free_units=str(free))
        found.append(costs(priced, a["units"]))
    assert found == [Fraction(amount) for amount in example["expected"]["a"]]
    ten = model("package", size=str(b["package_size"]), price="1")
    counted = {quantity: costs(ten, quantity) for quantity in b["quantities"]}
    assert counted == example["expected"]["b_packages"]
    sold = model("package", size=str(c["package_size"]), price=c["price"])
    before, now = c["already_billed_units"], c["already_billed_units"] + c["new_units"]
    assert costs(sold, now) - costs(sold, before) == Fraction(example["expected"]["c_increment"])
    inside = model(
        "block-tiers",
        mode="all-tiers",
        tiers=[{"up_to": None, "size": str(d["tier_package_size"]), "price": d["price"]}],
    )
    assert costs(inside, d["units"]) == Fraction(example["expected"]["d"])


def test_w10_late_usage_is_the_difference_of_the_whole() -> None:
    example = pricing_example("W10")
    priced = model("graduated", tiers=_tiers(example))
    first = costs(priced, example["inputs"]["first_bill_quantity"])
    whole = costs(priced, example["inputs"]["late_and_new_quantity_total"])
    assert first == Fraction(example["expected"]["first_invoice"])
    assert whole == Fraction(example["expected"]["recomputed"])
    assert whole - first == Fraction(example["expected"]["second_invoice"])


def test_w13_what_was_invoiced_is_subtracted_from_whole_blocks() -> None:
    example = pricing_example("W13")
    block, price = str(example["inputs"]["block"]), example["inputs"]["price"]
    for mode in ("all-tiers", "top-tier"):
        priced = model("block-tiers", mode=mode, tiers=[{"up_to": None, "size": block, "price": price}])
        due = [
            costs(priced, sum(period["usage"])) - Fraction(period["already_invoiced"])
            for period in example["inputs"]["periods"]
        ]
        assert due == [Fraction(amount) for amount in example["expected"]["to_bill"]], mode


def test_w15_the_bound_is_rounded_and_not_the_difference() -> None:
    example = pricing_example("W15")
    fee, committed = example["inputs"]["plan_fee_cents"], example["inputs"]["commitment_cents"]
    found = []
    for text in example["inputs"]["fractions"]:
        share = Fraction(text.split()[0])
        billed = Money.round_half_up(Fraction(fee, 100) * share, USD)
        found.append(int(minimum_line(billed, Fraction(committed, 100), share).amount * 100))
    assert found == example["expected"]["true_up_cents"]


def test_w17_a_minimum_spend_is_a_line_of_its_own() -> None:
    example = pricing_example("W17")
    a, b, c = (example["inputs"][part] for part in "abc")
    spent = dollars(a["subscription"]) + dollars(a["units"] * int(a["unit"]))
    line = minimum_line(spent, Fraction(a["minimum"]))
    assert line == dollars(example["expected"]["a_true_up"])
    assert spent + line == dollars(example["expected"]["a_total"])
    assert minimum_line(dollars(b["usage"]), Fraction(b["minimum"])) == dollars(example["expected"]["b_true_up"])
    billed = dollars(c["already_billed"]) + dollars(c["usage"])
    assert minimum_line(billed, Fraction(c["minimum"])) == dollars(example["expected"]["c_min_spend_line"])


def test_w28_a_coupon_is_spread_before_tax() -> None:
    expected = pricing_example("W28")["expected"]["d"]
    lines = [dollars("100"), dollars("50"), dollars("30"), dollars("20")]
    rates = ["10", "0", "20", "20"]
    coupon = Discount.model_validate({"discount": "coupon", "description": "Coupon", "amount": "10.00"})
    left = [line + off for line, off in zip(lines, reductions(coupon, lines), strict=True)]
    rules = [TaxRule.model_validate({"category": "S" if rate != "0" else "Z", "rate": rate}) for rate in rates]
    each = [tax_groups([(line, rule)], USD)[0].amount for line, rule in zip(left, rules, strict=True)]
    assert [f"{amount.amount:f}" for amount in each] == expected["taxes"]
    groups = tax_groups(zip(left, rules, strict=True), USD)
    tax = total((group.amount for group in groups), USD)
    assert f"{tax.amount:f}" == expected["total_tax"]
    assert f"{(total(left, USD) + tax).amount:f}" == expected["total"]


def test_w30_a_wallet_pays_after_tax_and_a_credit_line_is_exact() -> None:
    expected = pricing_example("W30")["expected"]
    grants: tuple[Grant, ...] = (Grant("wallet", 0, None, 0, dollars("39.00")),)
    drawn, balances = [], []
    for charge in ("14.29", "14.27"):
        net = dollars(charge)
        [group] = tax_groups([(net, TaxRule.model_validate({"category": "S", "rate": "24"}))], USD)
        draws, due = draw(grants, net + group.amount, 1)
        grants = after(grants, draws)
        drawn.append(f"{draws[0].amount.amount:f}")
        balances.append(f"{grants[0].balance.amount:f}")
        assert due == Money.zero(USD)
    assert (drawn, balances) == (expected["a"]["drawn"], expected["a"]["balance"])

    plan = dollars("31.00") + Money.round_half_up(costs(model("per-unit", unit="0.0002"), 2_000_000), USD)
    assert plan == dollars(expected["b"]["fees"])
    assert plan - dollars("200.00") == dollars(expected["b"]["due"])

    lines = [Money.round_half_up(Fraction(n, 3), USD) for n in range(1, 82)]
    credited = total(lines, USD) + dollars("-100.00")
    assert credited - total(lines, USD) == dollars(expected["c"]["credit_line"]), "no drift goes into the credit"


def test_w32_days_of_a_zone_decide_the_month() -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from kernel.clock import to_ms
    from kernel.window import month

    example = pricing_example("W32")
    zone = ZoneInfo(example["inputs"]["tz"])
    points = [
        to_ms(datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(ZoneInfo("UTC")))
        for text in example["inputs"]["points_local"]
    ]
    names = {"march": "2023-03", "april": "2023-04", "may": "2023-05"}
    for name, text in names.items():
        inside = month(text, example["inputs"]["tz"])
        assert sum(point in inside for point in points) == example["expected"][name], name
