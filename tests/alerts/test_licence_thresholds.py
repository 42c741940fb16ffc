"""Licences and contracts near their ends: from what is stored to the webhook, each threshold told once."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from alerts.settings import DEFAULT_RULES
from billing.api import ContractBook, LicenceCapacity, LicenceGauges
from kernel.audit import AuditLog
from kernel.ids import JobId, OrganizationId
from tests.alerts.conftest import MakeWorld
from tests.alerts.receiver import Receiver
from tests.alerts.world import START, World
from tests.billing.deals import contract_text, licence_text

ACME = OrganizationId("acme")
Told = tuple[str, str, str]  # alert, threshold, firing or resolved


class Licensed:
    """A world with the vendor's own book of contracts, and the gauges that it publishes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.book = ContractBook(world.database, world.clock, AuditLog(world.database, world.clock))

    def sign(self, organization: str, days: int, vcpu: int = 100) -> None:
        """A contract and its licence that end in so many days."""
        term = "2025-12-01", f"{START + timedelta(days=days):%Y-%m-%d}"
        self.book.add_contract(contract_text(organization, term=term, vcpu=vcpu), "contract.yaml", "test")
        self.book.add_licence(licence_text(organization, valid=term, vcpu=vcpu), "licence.yaml", "test")

    def hold(self, vcpu: int) -> None:
        """acme's clusters hold so much together."""

        def reserve(connection: sa.Connection) -> None:
            capacity = LicenceCapacity(self.world.clock)
            capacity.reserve(connection, ACME, "c1", vcpu * 1000, JobId(f"job-{vcpu}"))
            capacity.release(connection, ACME, "c1", vcpu * 1000)

        self.world.database.transact(reserve)

    async def minutes(self, count: float) -> None:
        gauges = LicenceGauges(self.world.database, await self.world.log.writer(), self.world.clock)
        for _ in range(int(count * 4)):
            await self.world.clock.advance(15)
            await gauges.publish()
            await self.world.turn()


def told(receiver: Receiver) -> list[set[Told]]:
    """What is new in each page."""
    pages: list[set[Told]] = []
    known: set[Told] = set()
    for request in receiver.taken:
        now = {
            (alert["labels"]["alertname"], alert["labels"]["threshold"], alert["status"])
            for alert in request.body["alerts"]
        }
        pages.append(now - known)
        known |= now
    return pages


async def test_each_share_of_the_capacity_is_told_once_and_an_addition_resolves_them(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    """69, 70, then to and fro for an hour, 90, 100 % of 100 vCPU; then 100 vCPU more."""
    licensed = Licensed(await make_world(DEFAULT_RULES.read_text()))
    licensed.sign("acme", days=200)
    licensed.hold(69)
    await licensed.minutes(2)
    assert told(receiver) == []
    for _ in range(5):
        licensed.hold(70)
        await licensed.minutes(2)
        licensed.hold(69)
        await licensed.minutes(10)
    assert told(receiver) == [{("LicenceCores", "70", "firing")}]
    licensed.hold(91)
    await licensed.minutes(1)
    licensed.hold(100)
    await licensed.minutes(1)
    assert told(receiver)[1:] == [{("LicenceCores", "90", "firing")}, {("LicenceCores", "100", "firing")}]
    texts = [alert["annotations"]["summary"] for page in receiver.taken for alert in page.body["alerts"]]
    assert sorted({text.removeprefix("Licensed cores are ") for text in texts}) == [
        "100.0 % used",
        "70.0 % used",
        "91.0 % used",
    ]
    more = licence_text(vcpu=100, valid=("2026-01-01", "2026-07-20"), more="adds_to: acme-licence\n")
    licensed.book.add_licence(more.replace("licence: acme-licence", "licence: acme-more", 1), "more.yaml", "test")
    await licensed.minutes(17)
    assert told(receiver)[3:] == [{("LicenceCores", each, "resolved") for each in ("70", "90", "100")}]


@pytest.mark.parametrize(
    ("days", "thresholds"),
    [
        (61, set()),
        (60, {"60"}),
        (31, {"60"}),
        (30, {"60", "30"}),
        (7, {"60", "30", "7"}),
        (-1, {"0"}),
        (-29, {"0"}),
    ],
)
async def test_the_end_of_licence_and_contract_is_told(
    make_world: MakeWorld, receiver: Receiver, days: int, thresholds: set[str]
) -> None:
    """By what is stored of both."""
    licensed = Licensed(await make_world(DEFAULT_RULES.read_text()))
    licensed.sign("acme", days=days)
    await licensed.minutes(1)
    alerts = ("LicenceValidity", "ContractTerm")
    assert set().union(*told(receiver)) == {(name, each, "firing") for name in alerts for each in thresholds}


async def test_a_renewal_resolves_what_was_told_of_the_end(make_world: MakeWorld, receiver: Receiver) -> None:
    """Nothing of another organization; and the page says when the end is."""
    licensed = Licensed(await make_world(DEFAULT_RULES.read_text()))
    licensed.sign("acme", days=20)
    licensed.sign("other", days=20)
    await licensed.minutes(1)
    before = told(receiver)
    assert len(before) == 4, "a page for each of licence and contract, of each organization"
    [text] = {
        alert["annotations"]["summary"]
        for page in receiver.taken
        for alert in page.body["alerts"]
        if alert["labels"].get("contract") == "acme-2026"
    }
    assert text.startswith("Contract acme-2026 ends in 19d 23h")
    end, following = "2026-01-21", "2027-01-21"
    contract = contract_text(contract="acme-r2", term=(end, following), vcpu=100)
    licensed.book.add_contract(contract, "contract.yaml", "test")
    licence = licence_text(valid=(end, following), vcpu=100).replace("acme-licence", "acme-licence-2")
    licensed.book.add_licence(licence.replace("acme-2026", "acme-r2"), "licence.yaml", "test")
    await licensed.minutes(17)
    resolved = [request.body for request in receiver.taken[4:]]
    assert {body["status"] for body in resolved} == {"resolved"}
    assert {body["groupLabels"]["organization"] for body in resolved} == {"acme"}
    assert {body["groupLabels"]["alertname"] for body in resolved} == {"LicenceValidity", "ContractTerm"}


async def test_a_tenant_speaks_for_no_contract(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world(DEFAULT_RULES.read_text())
    for _ in range(8):
        await world.clock.advance(15)
        await world.send(86_400.0, metric="byoc_contract_remaining_seconds")
        await world.turn()
    assert receiver.taken == []
