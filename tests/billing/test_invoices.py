"""From draft to final: what is issued, that it repeats byte for byte, and that nothing can change it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from billing.api import AmbiguousContract, NoContract, UsageNotSealed
from billing.models import invoices, outbox
from kernel.database import Database
from kernel.errors import Conflict, InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import Window, hour_of, month
from metering.usage.rows import UsageRow
from tests.billing.deals import ACME, HOUR_MS, Office, contract_text, ten_vcpu_above_for_an_hour

OCTOBER = month("2026-10")


def _open_with_overage(office: Office, **contract: object) -> None:
    office.book.add_contract(contract_text(**contract), "contract.yaml", "test")  # type: ignore[arg-type]
    office.usage.levels = ten_vcpu_above_for_an_hour(OCTOBER)


def test_closing_a_month_issues_the_commitment_once_and_the_overage(office: Office) -> None:
    _open_with_overage(office, more='tax: {category: S, rate: "19"}\n')

    closed = office.run.close(ACME, "2026-10")

    [commitment] = closed.commitments
    assert (commitment.number, commitment.gross) == ("EXAMPLE-EU-2026-000001", "17136.00")  # 16 * 900 * 1.19
    assert (closed.invoice.number, closed.invoice.gross) == ("EXAMPLE-EU-2026-000002", "1.23")  # 1.03 + 0.20
    document = closed.invoice.document
    assert [(line["kind"], line["amount"]) for line in document["lines"]] == [
        ("commitment-information", "0.00"),
        ("overage", "1.03"),
    ]
    assert document["issued_at"] == "2026-11-03T09:30:00.000Z"
    assert closed.invoice.sha256 == sha256(closed.invoice.json).hexdigest()
    assert office.postings() == [
        ("EXAMPLE-EU-2026-000001", "receivable:acme", 1713600),
        ("EXAMPLE-EU-2026-000001", "deferred-revenue:commitment", -1440000),
        ("EXAMPLE-EU-2026-000001", "tax-payable:S:19", -273600),
        ("EXAMPLE-EU-2026-000002", "receivable:acme", 123),
        ("EXAMPLE-EU-2026-000002", "revenue:overage", -103),
        ("EXAMPLE-EU-2026-000002", "tax-payable:S:19", -20),
    ]


def test_closing_again_gives_the_same_bytes_and_no_more_numbers(office: Office) -> None:
    _open_with_overage(office)
    first = office.run.close(ACME, "2026-10")
    office.clock.step_wall(40 * 86_400)

    again = office.run.close(ACME, "2026-10")
    november = office.run.close(ACME, "2026-11")

    assert again == first
    assert november.invoice.number == "EXAMPLE-EU-2026-000003"
    assert november.commitments == first.commitments
    assert len(office.run.invoices(ACME)) == 3


def test_a_draft_has_no_number_takes_none_and_repeats(office: Office) -> None:
    _open_with_overage(office)

    drafts = [office.run.draft(ACME, "2026-10") for _ in range(2)]

    assert drafts[0].json() == drafts[1].json()
    assert [drafts[0].document()[name] for name in ("number", "issued_at", "status")] == [None, None, "draft"]
    assert office.run.invoices() == []
    final = office.run.finalize(drafts[0])
    assert final.content_sha256 == sha256(drafts[0].json()).hexdigest()
    drafted = json.loads(drafts[0].json())
    differing = {key for key, value in drafted.items() if value != final.document[key]}
    assert differing == {"status", "number", "issued_at", "issue_date"}
    assert final.document.keys() - drafted.keys() == {"payment"}


def test_usage_that_can_still_change_is_not_invoiced(office: Office) -> None:
    _open_with_overage(office)
    office.usage.sealed = False

    with pytest.raises(UsageNotSealed, match="not sealed yet"):
        office.run.close(ACME, "2026-10")

    assert office.run.invoices() == []
    notes = office.run.draft(ACME, "2026-10").lines[1].notes
    assert any("not sealed" in note for note in notes)


def test_missing_time_is_stated_and_not_billed(small_office: Office) -> None:
    _open_with_overage(small_office)
    small_office.usage.missing_ms = 36 * HOUR_MS

    line = small_office.run.draft(ACME, "2026-10").document()["lines"][1]

    facts = {fact["name"]: fact for fact in line["derivation"]["facts"]}
    assert facts["missing_ms"]["value"] == str(36 * HOUR_MS)
    assert facts["missing_ms"]["shown"] == "36.00 component-hours"
    assert facts["hours_with_usage_rows"]["value"] == "0"
    assert "36.00 component-hours (4.84 %" in line["notes"][1]
    assert "not evidence of zero usage" in line["notes"][0]


def test_late_usage_after_the_final_invoice_is_seen_and_changes_nothing(office: Office) -> None:
    _open_with_overage(office)
    first = office.run.close(ACME, "2026-10")
    hour = hour_of(OCTOBER.start_ms)
    office.usage.rows = (
        UsageRow(ACME, ProjectId("main"), ClusterId("c1"), "query", hour, 2, 9, HOUR_MS, 0, 9, ("file sha",)),
    )
    office.usage.levels = []

    again = office.run.close(ACME, "2026-10")

    assert (first.late_usage, again.late_usage) == (False, True)
    assert again.invoice == first.invoice


def test_without_on_demand_overage_is_stated_and_not_billed(small_office: Office) -> None:
    _open_with_overage(small_office, on_demand=False)

    line = small_office.run.draft(ACME, "2026-10").document()["lines"][1]

    assert (line["amount"], line["informational"]) == ("0.00", True)
    assert line["derivation"]["quantity"]["exact"] == "600"


def test_the_contract_is_chosen_by_month(small_office: Office) -> None:
    book, run = small_office.book, small_office.run
    book.add_contract(contract_text(contract="first", term=("2026-01-15", "2026-06-10")), "a.yaml", "test")
    book.add_contract(contract_text(contract="second", term=("2026-06-10", "2027-01-01")), "b.yaml", "test")

    assert run.draft(ACME, "2026-01").period.start_ms == month("2026-01").start_ms + 14 * 24 * HOUR_MS
    assert run.draft(ACME, "2026-06", "second").agreed.contract.contract == "second"
    with pytest.raises(AmbiguousContract, match="first, second"):
        run.draft(ACME, "2026-06")
    with pytest.raises(NoContract, match="contract second does not cover 2026-05"):
        run.draft(ACME, "2026-05", "second")
    with pytest.raises(NoContract):
        run.draft(OrganizationId("other"), "2026-06")
    with pytest.raises(InvalidInput):
        run.draft(ACME, "2026-13")


def test_a_draft_of_an_amended_contract_is_not_finalized(office: Office) -> None:
    _open_with_overage(office)
    draft = office.run.draft(ACME, "2026-10")
    amended = contract_text(more="version: 2\n").replace(
        "vcpu: 16}\n", "vcpu: 16}\n  - {start: 2026-12-01, vcpu: 20}\n"
    )
    office.book.add_contract(amended, "contract.yaml", "test")

    with pytest.raises(Conflict, match="amended meanwhile"):
        office.run.finalize(draft)
    assert office.run.close(ACME, "2026-10").invoice.document["contract"]["version"] == "2"


CHANGES = (
    "UPDATE billing_invoices SET gross = '0.01'",
    "UPDATE billing_invoices SET document = replace(document, '1.03', '9.03')",
    "DELETE FROM billing_invoices",
    "UPDATE billing_postings SET minor_units = 0",
    "DELETE FROM billing_postings",
    "UPDATE billing_contracts SET snapshot = ''",
    "DELETE FROM billing_contracts",
    "UPDATE billing_counters SET last_sequence = 0",
    "UPDATE billing_counters SET last_sequence = last_sequence + 2",
    "DELETE FROM billing_counters",
)


def test_sql_cannot_change_what_was_issued(office: Office) -> None:
    _open_with_overage(office)
    closed = office.run.close(ACME, "2026-10")

    for statement in CHANGES:
        with pytest.raises(DBAPIError, match=r"append-only|counts up by one"):
            office.database.transact(lambda connection, text=statement: connection.execute(sa.text(text)))  # type: ignore[misc]

    assert office.run.close(ACME, "2026-10") == closed


def test_insert_or_replace_is_refused_on_sqlite(small_office: Office) -> None:
    _open_with_overage(small_office)
    closed = small_office.run.close(ACME, "2026-10")
    columns = ", ".join(column.name for column in invoices.columns)
    changed = columns.replace("gross", "'0.00'").replace("number", "'X'", 1)
    for values in (columns.replace("gross", "'0.00'"), changed):
        statement = f"INSERT OR REPLACE INTO billing_invoices ({columns}) SELECT {values} FROM billing_invoices"
        with pytest.raises(DBAPIError, match="append-only"):
            small_office.database.transact(lambda connection, text=statement: connection.execute(sa.text(text)))  # type: ignore[misc]
    assert small_office.run.close(ACME, "2026-10") == closed


@pytest.mark.services
def test_truncate_is_refused_on_postgresql(postgresql: Database) -> None:
    for table in ("billing_invoices", "billing_postings", "billing_counters", "billing_contracts"):
        with pytest.raises(DBAPIError, match=r"append-only|counts up by one"):
            postgresql.transact(lambda connection, t=table: connection.execute(sa.text(f"TRUNCATE {t} CASCADE")))  # type: ignore[misc]


def test_fifty_concurrent_finalisations_are_numbered_without_a_gap(office: Office) -> None:
    organizations = [OrganizationId(f"org-{index:02}") for index in range(25)]
    for organization in organizations:
        office.book.add_contract(contract_text(organization), "contract.yaml", "test")
    run = office.run
    drafts = [run.draft(organization, "2026-10") for organization in organizations]

    with ThreadPoolExecutor(50) as pool:
        issued = list(pool.map(run.finalize, drafts * 2))  # each twice, at once

    numbers = sorted({invoice.number for invoice in issued})
    assert numbers == [f"EXAMPLE-EU-2026-{sequence:06}" for sequence in range(1, 26)]
    assert [invoice.number for invoice in run.invoices()] == numbers
    count = sa.select(sa.func.count()).select_from(outbox)
    assert office.database.transact(lambda connection: connection.execute(count).scalar()) == 25
    assert office.audit.verify() == []


def test_kill_between_number_and_commit_leaves_no_gap(office: Office) -> None:
    _open_with_overage(office)
    url = office.database.url.render_as_string(hide_password=False)

    killed = subprocess.run(
        [sys.executable, "-m", "tests.billing.killed_finalizer", url], capture_output=True, text=True, check=False
    )

    assert killed.returncode == -9, killed.stderr
    assert killed.stdout == "numbered EXAMPLE-EU-2026-000001\n"
    assert office.run.invoices() == []
    assert office.run.finalize(office.run.draft(ACME, "2026-10")).number == "EXAMPLE-EU-2026-000001"


def test_issue_times_never_decrease_within_a_series(small_office: Office) -> None:
    _open_with_overage(small_office)
    small_office.clock.step_wall(40 * 86_400)
    first = small_office.run.finalize(small_office.run.draft(ACME, "2026-10"))
    small_office.clock.step_wall(-3600)

    second = small_office.run.finalize(small_office.run.draft(ACME, "2026-11"))

    assert second.issued_ms == first.issued_ms


def test_the_usage_must_be_of_the_billed_period(small_office: Office) -> None:
    from billing.draft import MeasuredPeriod, usage_draft

    _open_with_overage(small_office)
    agreed = small_office.book.contract("acme-2026")
    other = Window(OCTOBER.start_ms, OCTOBER.end_ms - HOUR_MS)
    with pytest.raises(ValueError, match="not of the billed period"):
        usage_draft(agreed, "2026-10", OCTOBER, MeasuredPeriod(small_office.usage.month(ACME, other), {}))
