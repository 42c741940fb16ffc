"""Cost and Usage 1.2 before focus-validator, which is not ours: a good file, and one broken in six columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from billing.exports.focus import write_bundle
from billing.exports.focus.bundle import COST_1_2
from tests.billing.deals import Office
from tests.billing.test_focus import billed, export
from tests.services.errors import ServiceUnavailable
from tests.services.focus_validator import FocusValidator, find_focus_validator

__all__ = ["billed"]
CRITERIA = "ACCOUNT_NAMING_SUPPORTED,MULTIPLE_PRICING_CATEGORIES_SUPPORTED"
# The rule is of charges without an invoice. Model 1.2.0.1 lacks the condition, so every invoiced charge fails.
WRONG_RULES = {"InvoiceId-C-004-C"}


@pytest.fixture(scope="module")
def validator() -> FocusValidator:
    try:
        return find_focus_validator()
    except ServiceUnavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.slow
def test_a_file_of_version_1_2_is_valid_and_a_broken_one_is_not(
    validator: FocusValidator, billed: Office, tmp_path: Path
) -> None:
    bundle = export(billed)
    write_bundle(bundle, tmp_path / "good")
    assert validator.failures(tmp_path / "good" / f"{COST_1_2}.csv", CRITERIA) == WRONG_RULES
    names, rows = bundle[COST_1_2]
    rows[0]["BillingCurrency"] = "dollars"
    rows[1]["BilledCost"] = ""
    rows[2]["ChargePeriodStart"] = "2026-10-01 00:00"
    rows[3]["ServiceCategory"] = "Vectors"
    rows[4]["ListCost"] = "x1"
    left = tuple(name for name in names if name != "InvoiceIssuerName")
    for row in rows:
        del row["InvoiceIssuerName"]
    write_bundle({COST_1_2: (left, rows)}, tmp_path / "broken")
    found = validator.failures(tmp_path / "broken" / f"{COST_1_2}.csv", CRITERIA)
    columns = {rule.split("-")[0] for rule in found - WRONG_RULES}
    assert columns >= {"BilledCost", "BillingCurrency", "ChargePeriodStart"}
    assert columns >= {"InvoiceIssuerName", "ListCost", "ServiceName"}
