"""A month is read when its hours are all sealed, and its invoice then comes without reading a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.drafts import PERIOD, seal_month
from bench.invoices import MONTH, charges, store_contracts
from billing.api import InvoiceRun
from console.migrate import migrate
from console.month_keeper import MonthKeeper
from console.wiring import Vendor
from kernel.clock import VirtualClock, from_ms
from kernel.ids import OrganizationId
from kernel.window import DAY_MS
from metering.usage.api import UsageStore
from tests.billing.deals import Office
from tests.usage.test_totals import statements

ACME, OTHER = OrganizationId("acme-1"), OrganizationId("other-2")


@pytest.fixture(params=["not-billed", "hold-last"])
def vendor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vendor]:
    """Two organizations with contracts of twelve lines, two days after the month."""
    opened = Vendor.embedded(tmp_path, VirtualClock(from_ms(PERIOD.end_ms + 2 * DAY_MS)))
    assert isinstance(opened, Vendor)
    migrate(opened.database())
    store_contracts(Office(opened.database()), [ACME, OTHER], f"gap_policy: {request.param}\n{charges()}")
    yield opened
    opened.database().close()


def drafted(vendor: Vendor, owner: OrganizationId) -> bytes:
    run = InvoiceRun(vendor.database(), UsageStore(vendor.database()), vendor.clock, vendor.audit())
    return run.draft(owner, MONTH).json()


async def test_a_sealed_month_is_read_once_and_its_invoice_reads_no_row(vendor: Vendor) -> None:
    keeper = MonthKeeper(vendor, 900.0)
    assert await keeper.look() == 0
    seal_month(vendor.database(), ACME, 1)
    with statements(vendor.database()) as asked:
        before = drafted(vendor, ACME)
    assert {table for table in ("usage_rows", "meter_rows") if any(f"FROM {table}" in one for one in asked)} == {
        "usage_rows",
        "meter_rows",
    }
    assert [await keeper.look() for _ in range(2)] == [1, 0]
    with statements(vendor.database()) as asked:
        assert drafted(vendor, ACME) == before
    assert before.count(b'"derivation"') >= 12
    assert not [one for one in asked if "FROM usage_rows" in one or "FROM meter_rows" in one]
    seal_month(vendor.database(), OTHER, 2)
    assert await keeper.look() == 1


async def test_what_one_contract_is_refused_for_holds_up_no_other(vendor: Vendor) -> None:
    """Its hours are sealed, but those of the meters that it charges for never were, and nobody defines them."""
    store_contracts(Office(vendor.database()), [OrganizationId("a-0")], charges().replace("meter-", "nobodys-"))
    for number, owner in enumerate((OrganizationId("a-0"), ACME)):
        seal_month(vendor.database(), owner, number)
    keeper = MonthKeeper(vendor, 900.0)
    assert [await keeper.look() for _ in range(2)] == [1, 0]
