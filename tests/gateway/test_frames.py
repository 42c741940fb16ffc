"""Our own frames against the real gateway, by the real codec: passed on, asked for again, refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from collector.wire.frames import MEDIA_TYPE, Block, GroupReader, Rows, join_blocks
from collector.wire.headers import PushHeaders, PushLane
from collector.wire.receipt import parse_answer
from kernel.clock import SystemClock, VirtualClock
from kernel.ids import CollectorId
from kernel.log import LogUnavailable, LogWriter, Position, Record, StoredRecord
from kernel.log.memory import MemoryLog
from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.record import (
    HISTORY_TOPIC,
    LIVE_TOPIC,
    PART_STRIDE,
    Lane,
    RecordFormat,
    canonical_labels,
    decode_header,
)
from tests.gateway.world import Answer, GatewayWorld, Sender, gateway_world
from tests.identity.world import OTHER
from tests.wire.frames.world import Sample, Target, entry, reader

pytestmark = pytest.mark.usefixtures("refused_at_once")

NOW = SystemClock().now_ms()
HEADERS = {"Content-Type": MEDIA_TYPE}


def entries(first: int, last: int) -> list[bytes]:
    return [entry("up", instance=f"i{number}") for number in range(first, last)]


def labelled(labels: dict[str, str]) -> bytes:
    return b"\x01" + canonical_labels({"__name__": "up", **labels}.items())


@dataclass
class Collector:
    """A target, its encoder and the numbers of a lane."""

    sender: Sender
    lane: PushLane = PushLane.BILLING
    group: int = 1
    target: Target = field(default_factory=lambda: Target(keyframe_every=100, now_ms=NOW - 60_000))
    sequence: int = 0
    sent: list[Sample] = field(default_factory=list)

    def scrape(self, series: Sequence[bytes]) -> list[Block]:
        """The blocks of a scrape of these series; what was sent is remembered."""
        tick, samples = self.target.scrape({name: float(number) for number, name in enumerate(series)})
        self.sent += samples
        return self.target.encoder.encode(tick, self.group)

    async def push(self, blocks: Sequence[Block], *, repeat: bool = False) -> Answer:
        self.sequence += not repeat
        push = PushHeaders(7, self.sequence, self.lane, complete_through_ms=NOW)
        return await self.send(join_blocks(self.group, blocks), push)

    async def resync(self, reader: GroupReader) -> Answer:
        """Send what a reader knows, as an uploader does after a 409."""
        push = PushHeaders(7, self.sequence, self.lane, part=2**20, resync=True)
        answers = [await self.send(body, push) for body in reader.roots()]
        return answers[-1]

    async def send(self, body: bytes, push: PushHeaders, **changed: str) -> Answer:
        return await self.sender.post("/api/v1/write", body, HEADERS | push.render() | changed)


@pytest.fixture
def collector(sender: Sender) -> Collector:
    return Collector(sender)


async def stored(world: GatewayWorld, topic: str = LIVE_TOPIC) -> list[StoredRecord]:
    reader = await world.log.reader("witness", [topic], since_ms=0)
    records: list[StoredRecord] = []
    while found := await reader.poll(1000, 0.01):
        records += found
    await reader.close()
    return records


def read(records: Sequence[StoredRecord]) -> list[Sample]:
    """What a reader of the log finds in these records of one group."""
    decoder, numbers = reader()
    return numbers.samples(row for record in records for row in decoder.read(record.value))


async def test_frames_are_passed_on_as_they_came(world: GatewayWorld, collector: Collector) -> None:
    scrapes = [collector.scrape(entries(0, 50)), collector.scrape(entries(0, 50)), collector.scrape(entries(5, 60))]
    answers = [await collector.push(blocks) for blocks in scrapes]
    assert [answer.status for answer in answers] == [200] * 3
    records = await stored(world)
    assert [record.value for record in records] == [join_blocks(1, blocks) for blocks in scrapes]
    assert read(records) == sorted(collector.sent)
    header = decode_header(records[1])
    assert (header.format, header.lane, header.complete_through_ms) == (RecordFormat.FRAMES, Lane.BILLING, NOW)
    assert str(header.sequence) == "7.2.0"
    assert records[1].headers["samples"] == b"50"
    receipt = parse_answer(answers[1].text.encode())[0].content
    assert receipt.sha256 == hashlib.sha256(records[1].value).hexdigest() == header.sha256
    assert receipt.log == ((LIVE_TOPIC, 0, 1),)
    assert (receipt.samples, answers[1].written[0]) == (50, "50")


async def test_state_that_is_not_known_is_asked_for_and_resent(world: GatewayWorld, collector: Collector) -> None:
    first, second = collector.scrape(entries(0, 9)), collector.scrape(entries(0, 9))
    decoder, _ = reader()
    decoder.read(join_blocks(1, first))
    collector.sequence = 1  # the first went to a gateway that is gone
    answer = await collector.push(second)
    assert (answer.status, answer.written[0]) == (409, "0")
    said = json.loads(answer.text)
    assert (said["error"], said["group"]) == ("unknown state", 1)
    assert "stream 1" in said["unknown"]
    assert await stored(world) == []
    collector.sequence = 1
    assert (await collector.resync(decoder)).status == 200
    assert (await collector.push(second)).status == 200
    resync, frame = await stored(world)
    assert decode_header(resync).resync
    assert str(decode_header(resync).sequence) == f"7.1.{2**20 * PART_STRIDE}"
    assert not decode_header(frame).resync
    assert len(read([resync, frame])) == 9
    assert world.metric("byoc_gateway_pushes_total", outcome="unknown_state") == 1


async def test_a_resync_holds_no_samples(world: GatewayWorld, collector: Collector) -> None:
    """They would belong to no push, so nobody would count them."""
    push = PushHeaders(7, 1, part=2**20, resync=True)
    answer = await collector.send(join_blocks(1, collector.scrape(entries(0, 9))), push)
    assert answer.status == 400
    assert await stored(world) == []


async def test_a_resync_of_remote_write_is_none(world: GatewayWorld, sender: Sender) -> None:
    """Its samples would be read as state, and counted by nobody."""
    answer = await sender.write([((("__name__", "up"),), [(NOW, 1.0)])], PushHeaders(7, 1, resync=True))
    assert (answer.status, answer.written[0]) == (400, "0")
    assert await stored(world) == []


async def test_a_repeat_is_appended_again(world: GatewayWorld, collector: Collector) -> None:
    """Its answer was lost perhaps; the lake knows what it has."""
    first, second = collector.scrape(entries(0, 9)), collector.scrape(entries(3, 12))
    for blocks in (first, second):
        assert (await collector.push(blocks)).status == 200
        assert (await collector.push(blocks, repeat=True)).status == 200
    assert len(await stored(world)) == 4


@pytest.mark.parametrize(
    ("lane", "topic"),
    [(PushLane.BILLING, LIVE_TOPIC), (PushLane.BULK, LIVE_TOPIC), (PushLane.HISTORY, HISTORY_TOPIC)],
)
async def test_each_lane_has_its_topic_and_its_own_state(
    world: GatewayWorld, sender: Sender, lane: PushLane, topic: str
) -> None:
    collector = Collector(sender, lane)
    root, later = collector.scrape(entries(0, 9)), collector.scrape(entries(0, 9))
    assert (await collector.push(root)).status == 200
    (record,) = await stored(world, topic)
    assert decode_header(record).lane == Lane(lane.value)
    elsewhere = next(one for one in PushLane if one is not lane)
    body = join_blocks(1, later)
    for push in (PushHeaders(7, 2, elsewhere), PushHeaders(8, 2, lane)):
        assert (await collector.send(body, push)).status == 409
    for credentials in (world.credentials(OTHER), world.credentials(collector=CollectorId("another"))):
        async with Sender(world, world.context(credentials)) as another:
            assert (await Collector(another, lane, sequence=1).push(later)).status == 409
    assert (await collector.push(later)).status == 200


async def test_the_last_groups_of_a_lane_are_known_and_no_more(collector: Collector) -> None:
    """A backlog beside fresh data: two groups in turn, and the one before."""
    others = {number: Collector(collector.sender, group=number) for number in range(1, 5)}
    for number in (1, 2, 3, 1, 2, 3):
        assert (await others[number].push(others[number].scrape(entries(0, 3)))).status == 200
    assert (await others[4].push(others[4].scrape(entries(0, 3)))).status == 200
    assert (await others[2].push(others[2].scrape(entries(0, 3)))).status == 200
    assert (await others[1].push(others[1].scrape(entries(0, 3)))).status == 409


class BrokenWriter:
    """Appends, and then says that it does not know: `lost` times."""

    def __init__(self, writer: LogWriter) -> None:
        self.writer, self.lost = writer, 0

    @property
    def max_record_bytes(self) -> int:
        return self.writer.max_record_bytes

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        positions = await self.writer.append(topic, records)
        if self.lost:
            self.lost -= 1
            raise LogUnavailable("no answer")
        return positions

    async def close(self) -> None:
        await self.writer.close()


async def test_after_an_unknown_outcome_nothing_builds_on_what_may_not_be_there(tmp_path: Path) -> None:
    log = MemoryLog()
    await log.ensure_topics({LIVE_TOPIC: 1})
    writer = BrokenWriter(await log.writer())
    async with (
        gateway_world(tmp_path, writer=writer, log=log) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        collector = Collector(sender)
        decoder, _ = reader()
        root, patch = collector.scrape(entries(0, 9)), collector.scrape(entries(5, 12))
        decoder.read(join_blocks(1, root))
        assert (await collector.push(root)).status == 200
        writer.lost = 1
        assert (await collector.push(patch)).status == 503
        assert (await collector.push(patch, repeat=True)).status == 409
        assert (await collector.resync(decoder)).status == 200
        assert (await collector.push(patch, repeat=True)).status == 200
        whole, numbers = reader()
        rows: list[Rows] = []
        seen: set[object] = set()
        for record in await stored(world):
            header = decode_header(record)
            rows += whole.read(record.value, samples=not header.resync and header.sequence not in seen)
            seen.add(header.sequence)
        assert numbers.samples(rows) == sorted(collector.sent), "readable in the order of the log"


async def test_a_wall_clock_that_steps_ahead_asks_for_roots_as_the_log_s_readers_forget(
    tmp_path: Path,
) -> None:
    clock = VirtualClock(SystemClock().now())
    async with (
        gateway_world(tmp_path, clock=clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        collector = Collector(sender)
        decoder, _ = reader()
        root = collector.scrape(entries(0, 9))
        decoder.read(join_blocks(1, root))
        assert (await collector.push(root)).status == 200
        clock.step_wall(2 * 3600)
        later = collector.scrape(entries(0, 9))
        assert (await collector.push(later)).status == 409
        assert (await collector.resync(decoder)).status == 200
        assert (await collector.push(later, repeat=True)).status == 200


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Content-Type": "application/vnd.byoc.frames"}, 415),
        ({"Content-Type": "application/vnd.byoc.frames;version=2"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "snappy"}, 415),
        ({"X-Byoc-Lane": "admin"}, 400),
        ({"Content-Type": "Application/Vnd.Byoc.Frames; Version=1"}, 200),
    ],
)
async def test_what_is_not_this_version_is_415(collector: Collector, changed: dict[str, str], status: int) -> None:
    body = join_blocks(1, collector.scrape(entries(0, 3)))
    assert (await collector.send(body, PushHeaders(7, 1), **changed)).status == status


async def test_frames_without_the_identity_of_their_push_are_400(collector: Collector) -> None:
    body = join_blocks(1, collector.scrape(entries(0, 3)))
    answer = await collector.sender.post("/api/v1/write", body, HEADERS)
    assert (answer.status, answer.written[0]) == (400, "0")


async def test_a_damaged_body_is_refused_whatever_the_damage(world: GatewayWorld, collector: Collector) -> None:
    body = join_blocks(1, collector.scrape(entries(0, 3)))
    damaged = [body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :] for at in range(len(body))]
    damaged += [body[:at] for at in range(0, len(body), 7)] + [body + b"x", b"", b"BYF", body * 2]
    for one in damaged:
        assert (await collector.send(one, PushHeaders(7, 1))).status in (400, 413)
    assert await stored(world) == []
    assert (await collector.send(body, PushHeaders(7, 1))).status == 200


async def test_a_body_over_what_the_log_takes_is_413_with_the_limit(tmp_path: Path) -> None:
    log = MemoryLog(max_record_bytes=10_000)
    await log.ensure_topics({LIVE_TOPIC: 1})
    async with (
        gateway_world(tmp_path, writer=await log.writer(), log=log) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        collector = Collector(sender)
        large = [entry("up", instance=hashlib.sha256(b"%d" % number).hexdigest()) for number in range(400)]
        answer = await collector.push(collector.scrape(large))
        assert (answer.status, answer.headers["Connection"]) == (413, "close")
        assert "at most 7952 bytes" in answer.text


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (labelled({"n" * 300: "x"}), "label_name_too_long"),
        (labelled({"long": "v" * 5000}), "label_value_too_long"),
        (labelled({f"l{number}": "x" for number in range(80)}), "too_many_labels"),
        (b"\x01job\xffx\xff", "no_metric_name"),
    ],
)
async def test_labels_over_a_tenants_limits_are_refused_by_reason(
    world: GatewayWorld, collector: Collector, series: bytes, reason: str
) -> None:
    answer = await collector.push(collector.scrape([series, *entries(0, 3)]))
    assert (answer.status, answer.written[0]) == (400, "0")
    assert f"{reason}: 1" in answer.text
    assert world.metric("byoc_gateway_samples_refused_total", reason=reason) == 1
    assert await stored(world) == []


async def test_a_label_that_is_the_vendors_to_set_is_counted(world: GatewayWorld, collector: Collector) -> None:
    claim = entry("up", organization="other", project="prod")
    assert (await collector.push(collector.scrape([claim]))).status == 200
    assert world.metric("byoc_gateway_labels_overwritten_total") == 1


@pytest.mark.parametrize(
    ("ahead_ms", "status"), [(590_000, 200), (3_600_000, 429), (90 * 86_400_000, 400), (-900 * 86_400_000, 400)]
)
async def test_times_are_held_against_the_clock(
    world: GatewayWorld, sender: Sender, ahead_ms: int, status: int
) -> None:
    collector = Collector(sender, target=Target(now_ms=NOW + ahead_ms))
    assert (await collector.push(collector.scrape(entries(0, 3)))).status == status
    assert len(await stored(world)) == (status == 200)


async def test_a_full_series_limit_keeps_what_is_known_and_the_place_of_what_goes(tmp_path: Path) -> None:
    settings = GatewaySettings(tenant=TenantLimits(active_series=10))
    async with (
        gateway_world(tmp_path, settings) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        collector, bulk = Collector(sender), Collector(sender, PushLane.BULK)
        assert (await collector.push(collector.scrape(entries(0, 7)))).status == 200
        assert (await bulk.push(bulk.scrape(entries(0, 3)))).status == 200
        more = bulk.scrape(entries(0, 4))
        refused = await bulk.push(more)
        assert (refused.status, refused.written[0]) == (429, "0")
        assert "1 new series over the limit of 10 active series" in refused.text
        assert (await collector.push(collector.scrape(entries(0, 7)))).status == 200
        assert (await collector.push(collector.scrape(entries(1, 7)))).status == 200
        assert (await bulk.push(more, repeat=True)).status == 429, "places are counted when new series come"
        assert (await collector.push(collector.scrape(entries(2, 8)))).status == 200
        assert (await bulk.push(more, repeat=True)).status == 200


async def test_a_group_that_begins_again_takes_no_places_twice(tmp_path: Path) -> None:
    settings = GatewaySettings(tenant=TenantLimits(active_series=10))
    async with (
        gateway_world(tmp_path, settings) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        for group in (1, 2, 3, 3):
            collector = Collector(sender, group=group)
            assert (await collector.push(collector.scrape(entries(0, 9)))).status == 200


async def test_over_the_rate_is_429_and_known_state_stays_known(tmp_path: Path) -> None:
    settings = GatewaySettings(tenant=TenantLimits(samples_per_second=20, burst_samples=10))
    async with (
        gateway_world(tmp_path, settings) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        collector = Collector(sender)
        assert (await collector.push(collector.scrape(entries(0, 10)))).status == 200
        later = collector.scrape(entries(0, 10))
        answer = await collector.push(later)
        assert (answer.status, answer.written[0]) == (429, "0")
        while answer.status == 429:
            await asyncio.sleep(0.05)
            answer = await collector.push(later, repeat=True)
        assert answer.status == 200
