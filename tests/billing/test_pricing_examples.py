"""Worked examples of public price lists and test suites, each with the figures that are known to be wrong."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from billing.rating.line import Priced, Rate
from billing.rating.overage import overage_rate
from billing.tax import TaxRule, tax_groups
from kernel.money import Currency, Money, currency, total
from kernel.quantity import render_fraction
from kernel.steps import StepFunction
from kernel.window import DAY_MS, HOUR_MS, Window, month
from tests.golden import pricing_example

USD, JPY = currency("USD"), currency("JPY")


def test_w01_overage_line_is_rounded_once_and_its_rate_never() -> None:
    example = pricing_example("W01")
    rate = overage_rate(Fraction(example["inputs"]["committed_unit_price_per_vcpu_year"]), "USD")
    priced = Priced(Fraction(example["inputs"]["overage_vcpu_minutes"]), "vCPU-minute", rate)

    amount, derivation = priced.amount(USD)

    assert f"{amount.amount:f}" == example["ours"]["line"] == "1.03"
    assert render_fraction(derivation.unrounded, 24) == example["expected"]["exact_unrounded"]
    assert Fraction(amount.amount) == derivation.unrounded + derivation.rounding


def test_w01_rounding_the_rate_gives_the_published_wrong_figure() -> None:
    example = pricing_example("W01")
    rate = overage_rate(Fraction(example["inputs"]["committed_unit_price_per_vcpu_year"]), "USD")
    rounded_rate = Decimal(render_fraction(rate.amount, 4))

    published = (rounded_rate * 600).quantize(Decimal("0.01"), ROUND_HALF_UP)

    assert str(rounded_rate) == example["expected"]["published_unit_rate_rounded_4dp"]
    assert str(published) == example["expected"]["published_estimate"] == "1.02"
    assert example["ours"]["negative"] == ["1.02 (rounds the rate)"]


def test_w23_time_weighted_integral_of_a_gauge() -> None:
    expected = pricing_example("W23")["expected"]
    january = month("2026-01")
    a = StepFunction.of(
        [(january.start_ms, 20), (january.start_ms + DAY_MS, 30), (january.start_ms + 16 * DAY_MS, 0)]
    )

    assert Fraction(a.integral(january), DAY_MS) == Fraction(expected["a_unit_days"])
    assert render_fraction(Fraction(a.integral(january), january.length_ms), 10) == expected["a_period_average"]

    august = month("2023-08")
    changes = [("0", 2), ("1", 3), ("1.5", 1), ("2", -4), ("4", -2), ("5", 10), ("5.5", -10)]
    deltas = [StepFunction.of([(august.start_ms + int(Fraction(at) * HOUR_MS), by)]) for at, by in changes]
    b = StepFunction.sum_of(deltas)
    c = b + StepFunction.constant(august, 1000)

    assert Fraction(b.integral(august), HOUR_MS) == Fraction(expected["b_unit_hours"])
    assert render_fraction(Fraction(b.integral(august), august.length_ms), 5) == expected["b_period_average"]
    assert render_fraction(Fraction(c.integral(august), august.length_ms), 5) == expected["c_period_average"]


def _line_total(values: list[str], unit: Currency) -> str:
    lines = [Priced(Fraction(value), "unit", Rate(Fraction(1), "1 per unit")).amount(unit)[0] for value in values]
    return f"{total(lines, unit).amount:f}"


def test_w27_each_line_half_up_then_the_sum() -> None:
    example = pricing_example("W27")
    *explicit, repeated = example["inputs"]["usd_lines"]
    value, count = repeated.split(" x")

    totals = [_line_total(lines, USD) for lines in [*explicit, [value] * int(count)]]

    assert totals == example["expected"]["usd"]
    assert _line_total(example["inputs"]["jpy_lines"], JPY) == example["expected"]["jpy"]
    assert _line_total(["0.0005"], USD) == "0.00"  # 30 of them on one line are 1.5 cents
    assert _line_total([str(Decimal("0.0005") * 30)], USD) == f"0.0{example['expected']['stripe_cents']}"
    assert _line_total([example["inputs"]["orb_decimal"]], USD) == f"0.0{example['expected']['orb_cents']}"


def _taxed(amounts: list[str], rate: str) -> tuple[Money, Money]:
    rule = TaxRule(category="S", rate=rate)  # decimal text, as in a contract
    lines = [Money(Decimal(amount), USD) for amount in amounts]
    [group] = tax_groups(((line, rule) for line in lines), USD)
    return group.amount, total(lines, USD) + group.amount


def test_w28_tax_is_rounded_once_for_each_rate() -> None:
    example = pricing_example("W28")

    assert f"{_taxed(['55.55', '11.11'], '23')[0].amount}" == example["ours"]["a"]
    assert f"{_taxed(['3.60'] * 10, '5.5')[1].amount}" == example["ours"]["b"]
    assert f"{_taxed(['138.66'], '19')[1].amount}" == example["ours"]["c"]
    per_line = sum(_taxed([amount], "23")[0].amount for amount in ("55.55", "11.11"))
    assert f"{per_line} and 38.00 (tax rounded per line)" in example["ours"]["negative"]


def _remitted_units(case: dict[str, Any]) -> int:
    """W21's formula: billable = ceil(max(0, max(0, total - coverage/bf) - remitted) * bf)."""
    factor, covered = Fraction(str(case["bf"])), Fraction(str(case.get("coverage", 0)))
    uncovered = max(Fraction(0), Fraction(str(case["total"])) - covered / factor)
    due = max(Fraction(0), uncovered - Fraction(str(case.get("remitted", 0)))) * factor
    return -(-due.numerator // due.denominator)


def test_w21_is_a_reference_formula_and_never_credits_back() -> None:
    example = pricing_example("W21")
    cases = example["inputs"]["cases"]

    assert [_remitted_units(case) for case in cases] == example["expected"]["billing_units"]
    timeline = example["inputs"]["timeline"]
    by_step = [
        _remitted_units({"total": used, "bf": 1, "coverage": covered, "remitted": remitted})
        for used, covered, remitted in zip(
            timeline["total"], timeline["coverage"], timeline["remitted"], strict=True
        )
    ]
    assert by_step == example["expected"]["timeline_billed"]
    # A corrected-down month: what was billed stays billed. Ours re-rates the period and credits the difference.
    assert _remitted_units({"total": "10", "bf": 1, "remitted": 12}) == 0


@pytest.mark.parametrize("edges", [[0, 1], [0, 7, 8], [0, 3, 5, 31]])
def test_a_split_of_the_month_gives_the_same_overage(edges: list[int]) -> None:
    january = month("2026-01")
    usage = StepFunction.of([(january.start_ms, 20_000), (january.start_ms + 5 * DAY_MS, 8_000)])
    excess = (usage - StepFunction.constant(january, 16_000)).positive_part()
    cuts = sorted({january.start_ms + edge * DAY_MS for edge in edges} | {january.end_ms})

    assert excess.integral(january) == sum(excess.integral(Window(a, b)) for a, b in pairwise(cuts))
