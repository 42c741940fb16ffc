"""What a collector says will never come: appended as its own word, receipted, refused when it is none."""

from __future__ import annotations

import hashlib

import pytest

from collector.wire.gaps import CONTENT_TYPE_GAPS, MAX_RUNS, NOTICE_PART, GapReason, GapRun, render_notice
from collector.wire.headers import PushHeaders, PushLane
from collector.wire.receipt import parse_answer
from metering.gaps import GivenUp, decode_gaps
from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.promql.head import Head
from metering.promql.limits import HeadLimits
from metering.record import Lane, RecordFormat, decode_header
from tests.gateway.world import Answer, GatewayWorld, Sender, gateway_world
from tests.identity.world import ACME, OTHER

pytestmark = pytest.mark.usefixtures("refused_at_once")

HEADERS = {"Content-Type": CONTENT_TYPE_GAPS}
PUSH = PushHeaders(7, 3, PushLane.BULK, NOTICE_PART)
BODY = render_notice([GapRun(3, 7, GapReason.QUOTA, 100), GapRun(9, 9, GapReason.DAMAGE)])


async def tell(sender: Sender, body: bytes = BODY, push: PushHeaders = PUSH, **changed: str) -> Answer:
    return await sender.post("/api/v1/write", body, HEADERS | push.render() | changed)


async def test_a_notice_is_in_the_log_with_a_receipt(world: GatewayWorld, sender: Sender) -> None:
    answer = await tell(sender)
    assert answer.status == 200
    receipt, _ = parse_answer(answer.text.encode())
    assert receipt.content.sha256 == hashlib.sha256(BODY).hexdigest()
    assert (receipt.content.samples, receipt.content.name.part) == (0, NOTICE_PART)
    (record,) = await world.records()
    header = decode_header(record)
    assert (header.format, header.lane, header.tenant) == (RecordFormat.GAPS, Lane.BULK, ACME)
    assert header.sequence is not None
    assert header.sequence.epoch == 7
    assert decode_gaps(record.value) == (GivenUp(3, 7, "quota"), GivenUp(9, 9, "damage"))
    assert world.metric("byoc_gateway_given_up_pushes_total", reason="quota") == 5
    head = Head(HeadLimits())
    assert head.ingest(record) == 0
    head.replay(record)


async def test_a_notice_is_of_who_the_certificate_says(world: GatewayWorld) -> None:
    async with Sender(world, world.context(world.credentials(OTHER))) as sender:
        assert (await tell(sender)).status == 200
    (record,) = await world.records()
    assert decode_header(record).tenant == OTHER


@pytest.mark.parametrize(
    ("status", "body", "push", "changed"),
    [
        (415, BODY, PUSH, {"Content-Type": "application/vnd.byoc.gaps;version=2"}),
        (415, BODY, PUSH, {"Content-Encoding": "gzip"}),
        (400, b"{}", PUSH, {}),
        (400, BODY, PushHeaders(7, 3, PushLane.BULK), {}),
        (400, BODY, PushHeaders(7, 3, PushLane.BULK, NOTICE_PART, complete_through_ms=5), {}),
        (400, BODY, PushHeaders(7, 3, PushLane.BULK, NOTICE_PART, resync=True), {}),
        (413, b" " * 70_000, PUSH, {}),
    ],
)
async def test_what_is_no_notice_is_not_in_the_log(
    world: GatewayWorld, sender: Sender, status: int, body: bytes, push: PushHeaders, changed: dict[str, str]
) -> None:
    answer = await tell(sender, body, push, **changed)
    assert answer.status == status, answer.text
    assert await world.records() == []


async def test_a_notice_without_a_name_is_refused(world: GatewayWorld, sender: Sender) -> None:
    assert (await sender.post("/api/v1/write", BODY, HEADERS)).status == 400
    assert await world.records() == []


async def test_notices_are_within_the_tenants_rate(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = GatewaySettings(tenant=TenantLimits(samples_per_second=1, burst_samples=1000))
    async with (
        gateway_world(tmp_path_factory.mktemp("rate"), settings) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        body = render_notice([GapRun(1, 1, GapReason.QUOTA)] * MAX_RUNS)
        statuses = [(await tell(sender, body)).status for _ in range(2)]
    assert 429 in statuses
