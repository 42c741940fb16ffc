"""From a record in the log to a signed request at the receiver."""

from __future__ import annotations

from alerts import models
from tests.alerts.conftest import MakeWorld
from tests.alerts.receiver import Receiver
from tests.alerts.world import ORG_A, ORG_B


async def test_a_sample_over_the_threshold_becomes_a_signed_page(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    await world.run(3, 35)
    await world.run(2, 20)
    first, second = receiver.taken
    assert first.statuses == [("firing", "Hot")]
    assert second.statuses == [("resolved", "Hot")]
    [alert] = first.body["alerts"]
    assert alert["labels"] == {
        "alertname": "Hot",
        "organization": "org-a",
        "room": "attic",
        "severity": "critical",
    }
    assert alert["annotations"] == {"summary": "attic is at 35"}
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert second.body["alerts"][0]["startsAt"] == alert["startsAt"]
    assert second.body["alerts"][0]["endsAt"] > alert["startsAt"]
    assert first.webhook_id != second.webhook_id


async def test_each_organization_has_alerts_of_its_own(make_world: MakeWorld, receiver: Receiver) -> None:
    """Two tenants send the same series; one is hot. The other is neither paged nor named."""
    world = await make_world()
    for _ in range(3):
        await world.clock.advance(1)
        await world.send(35, tenant=ORG_B)
        await world.send(20, tenant=ORG_A)
        await world.turn()
    assert [request.body["groupLabels"]["organization"] for request in receiver.taken] == ["org-b"]
    assert {row["organization"] for row in world.rows(models.instances)} == {"org-b"}
