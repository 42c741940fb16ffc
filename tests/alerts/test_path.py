"""From a record in the log to a signed request at the receiver."""

from __future__ import annotations

import pytest

from alerts import models
from kernel.log import Record
from metering.record import LIVE_TOPIC
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


async def test_records_that_can_not_be_read_are_counted_each_and_told_once_in_a_while(
    make_world: MakeWorld, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenant may send as many of them as it likes."""
    world = await make_world()
    writer = await world.log.writer()
    for seconds in (0, 60, 0):
        for _ in range(5):
            await writer.append(LIVE_TOPIC, [Record(b"key", b"no batch", {})])
        await world.run(1)
        await world.clock.advance(seconds)
    await world.run(2, 35)
    assert len(receiver.taken) == 1, "what can be read is evaluated all the same"
    said = capsys.readouterr().out
    assert said.count("record_refused") == 2
    assert "not_logged=9" in said
    assert world.service.ruler._parts.metrics.records.labels("dead_letter")._value.get() == 15
