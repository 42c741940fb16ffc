"""The rules that come with byoc: licence cores and validity, silent collectors."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from alerts import models
from alerts.collectors import forget_collector
from alerts.settings import DEFAULT_RULES
from kernel.ids import ClusterId, CollectorId, OrganizationId, ProjectId, Tenant
from kernel.window import HOUR_MS, Window
from metering.usage.reconciler import METRIC, Reconciler
from metering.usage.reconciliation import DeclaredCluster, Level
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.alerts.conftest import MakeWorld
from tests.alerts.receiver import Receiver
from tests.alerts.world import COLLECTOR, ORG_A, World
from tests.usage.months import ACME, seen, to_seal

VENDOR = Tenant(ORG_A.organization, ProjectId("vendor"))
BILLING = CollectorId("vendor-billing")
DAY_SECONDS = 86_400
Firing = tuple[str, str, str]  # alert, threshold, severity
FULL = {
    ("LicenceCores", "70", "warning"),
    ("LicenceCores", "90", "warning"),
    ("LicenceCores", "100", "critical"),
}
ENDING = {
    ("LicenceValidity", "60", "warning"),
    ("LicenceValidity", "30", "warning"),
    ("LicenceValidity", "7", "critical"),
}


async def published(world: World, metric: str, value: float, seconds: int = 60, tenant: Tenant = VENDOR) -> None:
    collector = BILLING if tenant is VENDOR else COLLECTOR
    for _ in range(seconds // 5):
        await world.clock.advance(5)
        await world.send(value, room="", metric=metric, tenant=tenant, collector=collector)
        await world.turn()


def firing(world: World) -> set[Firing]:
    labels = [json.loads(row["labels"]) for row in world.rows(models.instances) if row["state"] == "firing"]
    return {(found["alertname"], found.get("threshold", ""), found["severity"]) for found in labels}


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("byoc_licence_used_ratio", 0.69, set()),
        ("byoc_licence_used_ratio", 0.7, {("LicenceCores", "70", "warning")}),
        ("byoc_licence_used_ratio", 0.899, {("LicenceCores", "70", "warning")}),
        ("byoc_licence_used_ratio", 0.9, {("LicenceCores", "70", "warning"), ("LicenceCores", "90", "warning")}),
        ("byoc_licence_used_ratio", 1.25, FULL),
        ("byoc_licence_used_ratio", math.inf, FULL),
        ("byoc_licence_remaining_seconds", 60 * DAY_SECONDS + 1, set()),
        ("byoc_licence_remaining_seconds", 60 * DAY_SECONDS, {("LicenceValidity", "60", "warning")}),
        ("byoc_licence_remaining_seconds", 7 * DAY_SECONDS, ENDING),
        ("byoc_licence_remaining_seconds", 0, {("LicenceValidity", "0", "critical")}),
        ("byoc_licence_remaining_seconds", -5, {("LicenceValidity", "0", "critical")}),
        ("byoc_contract_remaining_seconds", 7 * DAY_SECONDS, {("ContractTerm", *each[1:]) for each in ENDING}),
        ("byoc_contract_remaining_seconds", 0, {("ContractTerm", "0", "critical")}),
    ],
)
async def test_licence_thresholds(make_world: MakeWorld, metric: str, value: float, expected: set[Firing]) -> None:
    world = await make_world(DEFAULT_RULES.read_text())
    await published(world, metric, value, 30)
    assert firing(world) == expected


async def test_a_tenant_cannot_speak_for_its_licence(make_world: MakeWorld, receiver: Receiver) -> None:
    """Its own gauge neither hides the overuse that billing reports nor pages anyone."""
    world = await make_world(DEFAULT_RULES.read_text())
    for _ in range(8):
        await published(world, "byoc_licence_used_ratio", 0.1, 5, ORG_A)
        await published(world, "byoc_licence_used_ratio", 1.2, 5)
    assert firing(world) == FULL


class Declares:
    """A provisioner that ran 4 vCPU in this cluster, ever."""

    def declared(self, organization: OrganizationId) -> Sequence[DeclaredCluster]:
        return [DeclaredCluster(ProjectId("prod"), ClusterId("orders"), (Level(0, 4000, 4000),))]


async def test_usage_that_differs_from_what_was_declared_is_told(make_world: MakeWorld, receiver: Receiver) -> None:
    """From sealed hours to the webhook: nothing at the threshold, told above it, and resolved by a new revision.

    A tenant can't hide it.
    """
    world = await make_world(DEFAULT_RULES.read_text())
    hour = Window(world.clock.now_ms() - HOUR_MS, world.clock.now_ms())
    reconciler = Reconciler(world.database, Declares(), UsageSettings(), world.clock)
    writer = await world.log.writer()
    tenant = Tenant(ACME, ProjectId("prod"))
    told: list[set[Firing]] = []
    for revision, milli_vcpu in (("a", 4040), ("b", 4041), ("c", 3960)):  # one per cent of what was declared is 40
        UsageStore(world.database).seal(
            [to_seal(hour, seen(hour, milli_vcpu), files=revision)], world.clock.now_ms()
        )
        reconciler.reconcile_new()
        for _ in range(8):
            await world.clock.advance(5)
            await reconciler.publish(writer)
            await world.send(0.0, room="", metric=METRIC, tenant=tenant, collector=COLLECTOR)
            await world.turn()
        told.append(firing(world))
        assert bool(receiver.taken) == (revision != "a")
    assert told == [set(), {("UsageDiffers", "", "warning")}, set()]
    first, last = (taken.body for taken in receiver.taken)
    assert first["alerts"][0]["labels"]["organization"] == ACME
    assert first["alerts"][0]["annotations"]["summary"].startswith("1 cluster-hours")
    assert (first["status"], last["status"]) == ("firing", "resolved")


async def test_a_silent_collector_is_told_on_the_clock(make_world: MakeWorld, receiver: Receiver) -> None:
    """It holds its own watermark back, and is found out nevertheless; one that speaks is not."""
    world = await make_world(DEFAULT_RULES.read_text())
    other = CollectorId("collector-2")
    await world.send(20)
    for _ in range(34):
        await world.clock.advance(5)
        await world.send(20, collector=other)
        await world.turn()
    [request] = receiver.taken
    [alert] = request.body["alerts"]
    assert alert["labels"] == {
        "alertname": "CollectorSilent",
        "collector": "collector-1",
        "organization": "org-a",
        "project": "project-1",
        "severity": "critical",
    }
    await world.send(20)
    await world.run(10, every=5)
    assert receiver.taken[-1].body["status"] == "resolved"


async def test_silence_outlives_a_restart_and_the_retention(make_world: MakeWorld, receiver: Receiver) -> None:
    """The log no longer knows the collector; the database does."""
    world = await make_world(DEFAULT_RULES.read_text())
    await world.send(20)
    await world.run(10, every=5)
    await world.stop()
    await world.clock.advance(2 * 3600)
    await world.start()
    await world.run(40, every=5)
    assert firing(world) == {("CollectorSilent", "", "critical")}


async def test_a_restart_after_hours_gives_collectors_time_to_come_back(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    """Missed times are not made up for on the clock: the silence was ours."""
    world = await make_world(DEFAULT_RULES.read_text())
    await world.send(20)
    await world.run(10, every=5)
    await world.stop()
    await world.clock.advance(2 * 3600)
    await world.start()
    await world.run(10, every=5)
    await world.send(20)
    await world.run(60, every=5)
    assert receiver.requests == []


async def test_a_collector_that_was_taken_out_of_service_is_forgotten(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    world = await make_world(DEFAULT_RULES.read_text())
    await world.send(20)
    await world.run(200, every=10)
    assert firing(world) == {("CollectorSilent", "", "critical")}
    now_ms = world.clock.now_ms()
    world.database.transact(lambda connection: forget_collector(connection, ORG_A, COLLECTOR, now_ms))
    await world.run(400, every=10)
    assert firing(world) == set()
    assert receiver.taken[-1].body["status"] == "resolved"
