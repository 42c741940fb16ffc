"""A month of many organizations: the same documents as one by one, whatever dies in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import billing.batch
from billing.batch import MonthDone, MonthRun
from billing.errors import NoContract, UsageNotSealed
from billing.invoices import Invoice
from billing.models import contracts
from billing.prepaid import GrantTerms, load_grants
from kernel.database import Database
from kernel.ids import OrganizationId
from kernel.money import Money, currency
from kernel.window import month
from metering.usage.model import UsageReader
from tests.billing.deals import Office, RecordedUsage, contract_text, ten_vcpu_above_for_an_hour

OCTOBER = month("2026-10")
CUSTOMERS = [OrganizationId(f"customer-{number}") for number in range(5)]


def open_usage(_database: Database) -> UsageReader:
    return RecordedUsage(ten_vcpu_above_for_an_hour(OCTOBER))


def open_unsealed(_database: Database) -> UsageReader:
    return RecordedUsage(ten_vcpu_above_for_an_hour(OCTOBER), sealed=False)


def book(office: Office) -> None:
    for customer in CUSTOMERS:
        office.book.add_contract(contract_text(customer), "contract.yaml", "test")


def close(office: Office, processes: int = 1, usage: object = open_usage) -> list[MonthDone]:
    run = MonthRun(office.database, usage, office.clock, office.audit, processes=processes)  # type: ignore[arg-type]
    return list(run.close([*CUSTOMERS, OrganizationId("nobody")], "2026-10"))


def documents(done: list[MonthDone]) -> list[Invoice]:
    return [one for each in done for one in each.documents]


def test_a_batch_gives_what_one_by_one_gives_and_gives_it_again(office: Office) -> None:
    book(office)
    office.usage.levels = ten_vcpu_above_for_an_hour(OCTOBER)
    drafts = [office.run.draft(customer, "2026-10") for customer in CUSTOMERS]
    done = close(office)
    [batch] = done
    assert [one.organization for one in batch.refused] == ["nobody"]
    assert isinstance(batch.refused[0].error, NoContract)
    issued = documents(done)
    assert [one.kind for one in issued] == ["commitment", "usage"] * 5
    assert [one.content_sha256 for one in issued if one.kind == "usage"] == [draft.sha256 for draft in drafts]
    assert [one.number for one in issued] == [f"EXAMPLE-EU-2026-{number:06d}" for number in range(1, 11)]
    assert documents(close(office)) == issued
    assert len(office.run.invoices()) == 10
    assert office.balance() == 0
    assert not office.audit.verify()


def test_a_contract_that_can_not_be_read_refuses_its_own_organization_alone(office: Office) -> None:
    """Say one that an older version stored and the rules of today refuse."""
    book(office)
    broken = contract_text(CUSTOMERS[2]) + "no_field_of_today: 1\n"
    row = {"contract": "unreadable", "version": 1, "organization": CUSTOMERS[2], "snapshot": broken}
    values = row | {"sha256": "0" * 64, "added_ms": 0}
    office.database.transact(lambda connection: connection.execute(contracts.insert().values(values)))
    [batch] = close(office)
    assert [one.organization for one in batch.refused] == [CUSTOMERS[2], "nobody"]
    assert {one.organization for one in batch.documents} == {*CUSTOMERS} - {CUSTOMERS[2]}


def test_documents_of_one_transaction_draw_each_credit_once(small_office: Office) -> None:
    """Commitment and month are numbered together; what the first draws is gone for the second."""
    book(small_office)
    usd = currency("USD")
    small_office.prepaid.add("wire", CUSTOMERS[0], Money(Decimal("14400.50"), usd), GrantTerms("wire-1"))
    issued = [one for one in documents(close(small_office)) if one.organization == CUSTOMERS[0]]
    drawn = [(one.kind, one.document["payment"]["prepaid"]) for one in issued]
    assert drawn == [
        ("commitment", [{"grant": "wire", "amount": "14400.00"}]),
        ("usage", [{"grant": "wire", "amount": "0.50"}]),
    ]
    [left] = small_office.database.read(lambda connection: load_grants(connection, CUSTOMERS[0], usd))
    assert left.balance == Money.zero(usd)
    assert small_office.balance() == 0


def test_what_is_not_sealed_is_refused_and_holds_up_nothing(office: Office) -> None:
    book(office)
    [batch] = close(office, usage=open_unsealed)
    assert batch.documents == ()
    assert [type(one.error) for one in batch.refused] == [NoContract, *[UsageNotSealed] * 5]
    assert office.run.invoices() == []


@pytest.mark.slow
def test_worker_processes_give_the_same(small_office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billing.batch, "BATCH", 2)  # a single batch is drafted without them
    book(small_office)
    issued = documents(close(small_office, processes=2))
    assert issued == documents(close(small_office))


KILLED = """
import sys
from datetime import UTC, datetime
import tests.billing.test_batch as batch
from tests.billing.deals import Office
from kernel.database import Database
batch.MonthRun.__module__
import billing.batch
billing.batch.BATCH = 2
batch.close(Office(Database(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_run_that_was_killed_is_run_again(office: Office, times: int, tmp_path: Path) -> None:
    """Killed after one, two or all batches: the next run finds what was issued and goes on without a gap."""
    book(office)
    url = office.database.url.render_as_string(hide_password=False)
    died = subprocess.run(
        [sys.executable, "-c", KILLED, url],
        env={**os.environ, "BYOC_CRASH_AT": f"billing.batch:{times}"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    assert len(office.run.invoices()) == min(10, 4 * times)
    issued = documents(close(office))
    assert [one.number for one in issued] == [f"EXAMPLE-EU-2026-{number:06d}" for number in range(1, 11)]
    assert len(office.run.invoices()) == 10
    assert not office.audit.verify()
