"""Damage in the extras of a frame: refused at the door, so that the sane part of a push is not lost behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.wire.frames import MEDIA_TYPE, FamilyMetadata, HistogramRow, join_blocks
from collector.wire.headers import PushHeaders
from kernel.clock import SystemClock
from tests.gateway.world import GatewayWorld, Sender, gateway_world
from tests.wire.frames.test_glance import DAMAGED, body_of, histogram, metadata
from tests.wire.frames.world import Target, entry

pytestmark = pytest.mark.usefixtures("refused_at_once")

NOW = SystemClock().now_ms()
HEADERS = {"Content-Type": MEDIA_TYPE}
A, B = entry("a"), entry("b")


async def test_each_damage_is_400_counted_and_logged_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with gateway_world(tmp_path) as world, Sender(world, world.context(world.credentials())) as sender:
        for number, which in enumerate(DAMAGED, start=1):
            body = body_of(DAMAGED[which], 2)
            answer = await sender.post("/api/v1/write", body, HEADERS | PushHeaders(7, number).render())
            assert (answer.status, answer.written[0]) == (400, "0"), which
            assert "frames" in answer.text, which
        assert world.metric("byoc_gateway_pushes_total", outcome="refused") == len(DAMAGED)
        assert await world.records() == []
    assert capsys.readouterr().out.count("push_refused") == 1


async def test_large_extras_are_looked_into_in_a_thread(sender: Sender) -> None:
    """What comes in few bytes may be much; a body of few extras is opened at once."""
    families = [b"\1" + bytes([9]) + b"%09d" % number + b"\1s\0" for number in range(9_000)]
    sane, damaged = metadata(*families), metadata(*families[:-1], families[0])
    for number, (raw, said) in enumerate([(sane, "timestamp_too_old"), (damaged, "names that ascend")], start=1):
        answer = await sender.post("/api/v1/write", body_of(raw, 0), HEADERS | PushHeaders(7, number).render())
        assert (answer.status, said in answer.text) == (400, True), answer.text


async def test_the_sane_blocks_of_a_push_arrive_when_the_bad_part_stands_alone(
    world: GatewayWorld, sender: Sender
) -> None:
    """As the collector does after a 400."""
    target = Target(now_ms=NOW - 60_000)
    told = [FamilyMetadata("a", 1, "", "Whether.")]
    tick, _ = target.scrape({A: 1.0, B: 2.0}, histograms=[(A, histogram(NOW)), (B, histogram(-1))], metadata=told)
    assert isinstance(tick.histograms[0], HistogramRow)
    blocks = target.encoder.encode(tick, 1)
    whole = await sender.post("/api/v1/write", join_blocks(1, blocks), HEADERS | PushHeaders(7, 1).render())
    assert (whole.status, whole.written[0]) == (400, "0")
    answers = [
        await sender.post("/api/v1/write", join_blocks(1, [block]), HEADERS | PushHeaders(7, 1, part=part).render())
        for part, block in enumerate(blocks)
    ]
    assert sorted(answer.status for answer in answers) == [200] * (len(blocks) - 1) + [400]
    assert len(await world.records()) == len(blocks) - 1
