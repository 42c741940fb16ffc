"""Price models that are not accepted: what was found, and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.billing.pricing.models import model

LAST = {"up_to": None, "unit": "1"}


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("graduated", {"tiers": []}, "at least 1 item"),
        ("graduated", {"tiers": [{"up_to": "5", "unit": "1"}]}, "the last tier has up_to null"),
        ("volume", {"tiers": [{"up_to": "5", "unit": "1"}, {"up_to": "5", "unit": "2"}, LAST]}, "neither overlap"),
        (
            "volume",
            {"tiers": [{"up_to": "9", "unit": "1"}, {"up_to": "5", "unit": "2"}, LAST]},
            "found 5 in tier 1",
        ),
        ("graduated", {"tiers": [LAST, LAST]}, "only the last tier"),
        ("graduated", {"tiers": [{"up_to": "0", "unit": "1"}, LAST]}, "found 0 in tier 0"),
        ("graduated", {"tiers": [{"up_to": None, "unit": 1.5}]}, "a decimal in quotes"),
        ("graduated", {"tiers": [{"up_to": None, "unit": "-1"}]}, "not negative"),
        ("graduated", {"tiers": [{"unit": "1"}]}, "Field required"),
        ("per-unit", {"unit": "NaN"}, "a decimal in quotes"),
        ("package", {"size": "0", "price": "1"}, "more than 0 units"),
        (
            "block-tiers",
            {"mode": "all-tiers", "tiers": [{"up_to": None, "size": "0", "price": "1"}]},
            "size 0 in tier 0",
        ),
        (
            "block-tiers",
            {"mode": "all", "tiers": [{"up_to": None, "size": "1", "price": "1"}]},
            "'all-tiers' or 'top-tier'",
        ),
        ("percentage", {"percent": "1", "min": "5", "max": "4"}, "found min 5, max 4"),
        ("windowed-commitment", {"committed": "1", "unit": "1", "overage_factor": "0.5"}, "a factor from 1"),
        ("per-unit", {"unit": "1", "units": "2"}, "Extra inputs"),
        ("free", {}, "'per-unit', 'graduated'"),
    ],
)
def test_refused(kind: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model(kind, **fields)
    assert said in str(caught.value)
