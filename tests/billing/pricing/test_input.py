"""Price models that are not accepted: what was found, and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from billing.pricing import PriceModel
from kernel.settings import Section, invalid


class Priced(Section):
    """Something with a price model, as charges and price books are."""

    model: PriceModel


LAST = {"up_to": None, "unit": "1"}


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("graduated", {"tiers": []}, "tiers: found an empty list; allowed: 1 or more of them"),
        (
            "graduated",
            {"tiers": [{"up_to": "5", "unit": "1"}]},
            "tiers[0].up_to: found 5; allowed: null in the",
        ),
        ("volume", {"tiers": [{"up_to": "5", "unit": "1"}, {"up_to": "5", "unit": "2"}, LAST]}, "neither overlap"),
        (
            "volume",
            {"tiers": [{"up_to": "9", "unit": "1"}, {"up_to": "5", "unit": "2"}, LAST]},
            "tiers[1].up_to: found 5; allowed: more than 9",
        ),
        ("graduated", {"tiers": [LAST, LAST]}, "tiers[0].up_to: found null; allowed: a bound"),
        (
            "graduated",
            {"tiers": [{"up_to": "0", "unit": "1"}, LAST]},
            "tiers[0].up_to: found 0; allowed: more",
        ),
        ("graduated", {"tiers": [{"up_to": None, "unit": 1.5}]}, "a decimal in quotes"),
        ("graduated", {"tiers": [{"up_to": None, "unit": "-1"}]}, "not negative"),
        (
            "graduated",
            {"tiers": [{"unit": "1"}]},
            "tiers[0].up_to: found nothing; allowed: a value: last",
        ),
        ("per-unit", {"unit": "NaN"}, "a decimal in quotes"),
        ("package", {"size": "0", "price": "1"}, "more than 0 units"),
        (
            "block-tiers",
            {"mode": "all-tiers", "tiers": [{"up_to": None, "size": "0", "price": "1"}]},
            "tiers[0].size: found 0; allowed: a block of more than 0",
        ),
        (
            "block-tiers",
            {"mode": "all", "tiers": [{"up_to": None, "size": "1", "price": "1"}]},
            "'all-tiers' or 'top-tier'",
        ),
        ("percentage", {"percent": "1", "min": "5", "max": "4"}, "max: found 4; allowed: at least min, 5"),
        ("windowed-commitment", {"committed": "1", "unit": "1", "overage_factor": "0.5"}, "a factor from 1"),
        (
            "per-unit",
            {"unit": "1", "units": "2"},
            "units: found an unknown name; allowed: kind, unit",
        ),
        ("free", {}, "kind: found 'free'; allowed: one of per-unit, graduated"),
    ],
)
def test_refused(kind: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Priced.model_validate({"model": {"kind": kind, **fields}})
    [finding] = invalid(caught.value, "prices.yaml", Priced).findings
    assert said in str(finding)
    assert finding.where.startswith("model.")
