"""FOCUS, judged by focus-data-toolkit, which is not ours."""

from __future__ import annotations

import csv
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from focus_data_toolkit.convert.cost_and_usage import convert_cost_and_usage
from focus_data_toolkit.model.validator import lint_focus_1_4_structure
from focus_data_toolkit.schema.registry import mandatory_columns, version_columns
from focus_data_toolkit.validate.bundle import BundleReport, validate_dataset_bundle

from billing.exports.focus import Bundle, FocusRequest, Issue, build_bundle, write_bundle
from billing.exports.focus.bundle import COMMITMENTS, COST, COST_1_2, DETAIL, PERIODS
from billing.exports.focus.charges import Service
from billing.exports.focus.check import check_files
from billing.exports.focus.columns import COST_AND_USAGE_1_2
from kernel.errors import ByocError, InvalidInput, NotFound
from kernel.money import Money, currency
from kernel.window import DAY_MS, month
from tests.billing.deals import ACME, Office, contract_text

OCTOBER, NOVEMBER = month("2026-10"), month("2026-11")
MODEL = '{kind: graduated, tiers: [{up_to: "10", unit: "2.00"}, {up_to: null, unit: "3.00"}]}'
STEPS = f"[{{start: 2026-10-01, model: {MODEL}}}]"
CALLS = f"charges:\n  - {{charge: calls, description: Calls, meter: calls, steps: {STEPS}}}\n"
TAXED = 'tax: {category: S, rate: "19"}\n'
NAMES = {
    COST: "Cost and Usage",
    DETAIL: "Invoice Detail",
    PERIODS: "Billing Period",
    COMMITMENTS: "Contract Commitment",
}


def issues_of(office: Office) -> list[Issue]:
    return [
        Issue(one.document, office.receivables.standing(one.number).state.value == "void")
        for one in office.run.invoices(ACME)
    ]


def export(office: Office, first: str = "2026-10", last: str = "2026-12") -> Bundle:
    return build_bundle(issues_of(office), FocusRequest(first, last, Service("Vectors"), office.clock.now_ms()))


def validate(bundle: Bundle) -> BundleReport:
    rows = {NAMES[name]: rows for name, (_, rows) in bundle.items() if name in NAMES}
    return validate_dataset_bundle(rows, invoice_detail_authoritative=True, rounding_tolerance=Decimal(0))


def use(office: Office, october: int, november: int) -> None:
    levels = {OCTOBER.start_ms: Fraction(october), NOVEMBER.start_ms: Fraction(november)}
    office.usage.meters["calls"] = {"main": levels}


@pytest.fixture
def billed(small_office: Office) -> Office:
    """Commitment, two months with tax, late usage both ways, a credit by a person and a void invoice."""
    office = small_office
    office.book.add_contract(contract_text(more=CALLS + TAXED), "contract.yaml", "test")
    use(office, 8, 0)
    first = office.run.close(ACME, "2026-10").invoice
    use(office, 12, 5)
    office.clock.step_wall(31 * DAY_MS / 1000)
    second = office.run.close(ACME, "2026-11").invoice
    office.receivables.void(second.number, "wrong address")
    office.run.close(ACME, "2026-11")
    index = next(i for i, line in enumerate(first.document["lines"]) if line["kind"] == "charge:calls")
    office.receivables.credit(first.number, {index: Money.parse("3.00", currency("USD"))}, "goodwill")
    return office


def test_every_data_set_is_what_the_toolkit_takes_for_focus(billed: Office) -> None:
    bundle = export(billed)
    for name, dataset in NAMES.items():
        columns, rows = bundle[name]
        assert all(tuple(sorted(row)) == tuple(sorted(columns)) for row in rows)
        report = lint_focus_1_4_structure(dataset, rows)
        assert report.ok, report.messages()


def test_the_bundle_reconciles_to_the_cent(billed: Office) -> None:
    bundle = export(billed)
    report = validate(bundle)
    assert report.ok, report.format()
    assert "reconcile_invoice_detail" in report.checks_run
    assert {found.code for found in report.diagnostics} == {"FDT-CROSS-031"}, "the void invoice's lines alone"
    gross = sum(Decimal(each.document["totals"]["gross"]) for each in issues_of(billed) if not each.is_void)
    assert sum(Decimal(row["BilledCost"]) for row in bundle[COST][1]) == gross
    voided = {row["InvoiceIssueStatus"] for row in bundle[DETAIL][1]}
    assert voided == {"Issued", "Voided"}


def test_a_wrong_amount_and_a_wrong_column_are_found(billed: Office) -> None:
    wrong = export(billed)
    wrong[DETAIL][1][0]["BilledCost"] = "14400.01"
    assert [found.code for found in validate(wrong).errors] == ["FDT-CROSS-030"]
    renamed = export(billed)
    for row in renamed[COST][1]:
        row["BilledCosts"] = row.pop("BilledCost")
    report = lint_focus_1_4_structure("Cost and Usage", renamed[COST][1])
    assert {found.rule for found in report.violations} >= {"unknown_column", "missing_mandatory_column"}
    assert not validate(renamed).ok


def test_each_check_fails_for_each_data_set_that_breaks_it(billed: Office) -> None:
    """Structure: a column too few or too many, a null, a time, a currency. Across: money, ids, periods."""
    bundle = export(billed)
    for name, dataset in NAMES.items():
        first = bundle[name][1][0]
        needed = min(mandatory_columns(dataset, "1.4") - {"BillingCurrency"})
        at = next(column for column in first if column.endswith("Start"))
        spoiled: dict[str, dict[str, str]] = {
            "missing_mandatory_column": {key: value for key, value in first.items() if key != needed},
            "unknown_column": first | {"Later": "1"},
            "bad_datetime": first | {at: "2026-10-01 00:00"},
        }
        if name != COMMITMENTS:
            spoiled["null_not_allowed"] = first | {needed: ""}
        if "BillingCurrency" in first:
            spoiled["bad_currency"] = first | {"BillingCurrency": "dollars"}
        for rule, row in spoiled.items():
            found = {each.rule for each in lint_focus_1_4_structure(dataset, [row]).violations}
            assert rule in found, (dataset, rule)
    across = (("BilledCost", "1.01", "030"), ("InvoiceDetailId", "none", "014"), ("BillingCurrency", "EUR", "0"))
    for name in (COST, DETAIL):
        for column, value, code in across:
            rows = [bundle[name][1][0] | {column: value}, *bundle[name][1][1:]]
            codes = [each.code for each in validate({**bundle, name: (bundle[name][0], rows)}).errors]
            assert any(each.startswith(f"FDT-CROSS-{code}") for each in codes), (name, column, codes)
    periods = [{**row, "BillingPeriodStart": "2026-10-02T00:00:00Z"} for row in bundle[PERIODS][1]]
    assert not validate({**bundle, PERIODS: (bundle[PERIODS][0], periods)}).ok


def test_files_are_checked_as_they_were_written(billed: Office, tmp_path: Path) -> None:
    """What `byoc export focus --check` says: nothing of good ones, and where a broken one is wrong."""
    write_bundle(export(billed), tmp_path)
    assert check_files(tmp_path) == []
    detail = tmp_path / f"{DETAIL}.csv"
    detail.write_text(detail.read_text().replace("14400.00", "14400.01", 1))
    [found] = check_files(tmp_path)
    assert "FDT-CROSS-030" in found
    detail.write_text(detail.read_text().replace("BilledCost", "BilledCosts", 1))
    assert any(text.startswith("Invoice Detail: ") for text in check_files(tmp_path))
    detail.unlink()
    with pytest.raises(ByocError, match=rf"{DETAIL}\.csv can't be read"):
        check_files(tmp_path)


def test_a_correction_has_its_own_charge_period_and_the_open_billing_period(billed: Office) -> None:
    rows = export(billed)[COST][1]
    [late] = [row for row in rows if row["x_LineKind"] == "correction:charge:calls"]
    assert (late["ChargeClass"], late["ChargeCategory"], late["BilledCost"]) == ("Correction", "Usage", "10.00")
    assert (late["ChargePeriodStart"], late["BillingPeriodStart"]) == (
        "2026-10-01T00:00:00Z",
        "2026-11-01T00:00:00Z",
    )
    [credit] = [row for row in rows if row["x_LineKind"] == "credit:charge:calls"]
    assert (credit["ChargeClass"], credit["BilledCost"]) == ("Correction", "-3.00")
    assert (credit["ChargePeriodStart"], credit["BillingPeriodStart"]) == (
        "2026-10-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
    ), "issued in December"
    assert credit["x_ReferenceInvoiceId"] == late["x_ReferenceInvoiceId"]
    taxes = [row for row in rows if row["ChargeCategory"] == "Tax"]
    assert [row["BilledCost"] for row in taxes if row["ChargeClass"]] == ["-0.57"]
    assert {row["PricingQuantity"] for row in (late, credit, *taxes)} == {""}


def test_what_is_paid_up_front_is_effective_where_it_is_used(billed: Office) -> None:
    rows = export(billed)[COST][1]
    [bought] = [row for row in rows if row["x_LineKind"] == "commitment"]
    assert (bought["BilledCost"], bought["EffectiveCost"]) == ("14400.00", "0")
    covered = [row for row in rows if row["x_LineKind"] == "commitment-information"]
    # 14,400.00 over 365 days: 31 days, and 61 days less that.
    assert [(row["BilledCost"], row["EffectiveCost"]) for row in covered] == [
        ("0.00", "1223.01"),
        ("0.00", "1183.57"),
    ]
    assert covered[0]["ContractApplied"] == (
        '{"Elements":[{"ContractId":"acme-2026","ContractCommitmentId":"acme-2026/2026-10-01",'
        '"ContractCommitmentAppliedUnit":"vCPU-Hours","ContractCommitmentAppliedQuantity":11904}]}'
    )
    [commitment] = export(billed)[COMMITMENTS][1]
    assert (commitment["ContractCommitmentQuantity"], commitment["ContractCommitmentCost"]) == (
        "140160",
        "14400.00",
    )
    assert (commitment["ContractCommitmentDurationType"], commitment["ContractCommitmentLifecycleStatus"]) == (
        "12 Months",
        "Active",
    )


def test_a_month_is_closed_by_its_invoice(billed: Office) -> None:
    periods = export(billed)[PERIODS][1]
    assert [(row["BillingPeriodStart"][:7], row["BillingPeriodStatus"]) for row in periods] == [
        ("2026-10", "Closed"),
        ("2026-11", "Closed"),
        ("2026-12", "Open"),
    ]


def test_version_1_2_has_its_columns_and_no_later_ones(billed: Office) -> None:
    ours = {name for name in COST_AND_USAGE_1_2 if not name.startswith("x_")}
    assert mandatory_columns("Cost and Usage", "1.2") <= ours <= version_columns("Cost and Usage", "1.2")
    bundle = export(billed)
    costs = [[row["BilledCost"] for row in bundle[name][1]] for name in (COST, COST_1_2)]
    assert costs[0] == costs[1]


def faults_1_2(rows: list[dict[str, str]]) -> set[tuple[str, str]]:
    """(rule, column): the toolkit's conversion to 1.4, judged by its rules for the columns that ours has in 1.2."""
    ours = {name for name in COST_AND_USAGE_1_2 if not name.startswith("x_")}
    linted = lint_focus_1_4_structure("Cost and Usage", convert_cost_and_usage(rows, "1.2"))
    found = {(each.rule, each.column) for each in linted.violations if each.column in ours}
    there = {name for row in rows for name in row if not name.startswith("x_")}
    missing = {("missing_mandatory_column", name) for name in mandatory_columns("Cost and Usage", "1.2") - there}
    return found | missing | {("unknown_column", name) for name in there - version_columns("Cost and Usage", "1.2")}


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("BilledCost", "", "null_not_allowed"),
        ("BillingCurrency", "dollars", "bad_currency"),
        ("ChargeCategory", "Fee", "not_in_allowed_values"),
        ("ChargePeriodStart", "2026-10-01 00:00", "bad_datetime"),
        ("ListCost", "x1", "bad_numeric_format"),
        ("ProviderName", None, "missing_mandatory_column"),
        ("ServiceProviderName", "Example Europe GmbH", "unknown_column"),
    ],
)
def test_a_broken_file_of_version_1_2_fails(billed: Office, column: str, value: str | None, rule: str) -> None:
    _, rows = export(billed)[COST_1_2]
    assert faults_1_2(rows) == set()
    if value is None:
        rows = [{name: kept for name, kept in row.items() if name != column} for row in rows]
    else:
        rows[0] |= {column: value}
    assert (rule, column) in faults_1_2(rows)


def test_a_span_without_documents_and_a_span_backwards_are_refused(billed: Office) -> None:
    with pytest.raises(NotFound, match="2027-01"):
        export(billed, "2027-01", "2027-02")
    with pytest.raises(InvalidInput, match="not before"):
        export(billed, "2026-12", "2026-10")


def test_files_are_what_was_built(billed: Office, tmp_path: Path) -> None:
    bundle = export(billed)
    for path in write_bundle(bundle, tmp_path / "out"):
        with path.open(encoding="utf-8", newline="") as file:
            assert list(csv.DictReader(file)) == bundle[path.stem][1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{name}.csv" for name in bundle)
