"""Pushes: what is written, what is refused, and what the answer says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from collector.wire.headers import PushHeaders, PushLane
from collector.wire.snappy import compress
from kernel.clock import SystemClock
from kernel.log import LogUnavailable, Position, Record
from kernel.log.memory import MemoryLog
from metering.gateway.settings import BodyLimits, GatewaySettings, TenantLimits
from metering.record import HISTORY_TOPIC, LIVE_TOPIC, Lane
from metering.record import Sequence as PushSequence
from tests.gateway.messages import RW1, RW2, encode_rw2
from tests.gateway.world import GatewayWorld, Sender, gateway_world
from tests.identity.world import ACME, COLLECTOR

pytestmark = pytest.mark.usefixtures("refused_at_once")

NOW = SystemClock().now_ms()
UP = (("__name__", "up"), ("job", "milvus"))
ROWS = [(UP, [(NOW, 1.0), (NOW + 1, 2.0)])]
BAD_ROWS = [*ROWS, ((("job", "no name"),), [(NOW, 3.0)])]
PUSH = PushHeaders(epoch=7, sequence=3, complete_through_ms=NOW)
OWN = {"organization": "acme", "project": "prod"}


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    tenant = TenantLimits(
        samples_per_second=1, burst_samples=10, active_series=3, labels_per_series=5, label_value_bytes=64
    )
    body = BodyLimits(body_bytes=20_000, decompressed_bytes=40_000, read_seconds=0.5)
    async with gateway_world(tmp_path, GatewaySettings(tenant=tenant, body=body)) as made:
        yield made


@pytest.mark.parametrize("version", [1, 2])
async def test_a_push_is_in_the_log_when_it_is_answered(world: GatewayWorld, sender: Sender, version: int) -> None:
    answer = await sender.write(ROWS, version=version)
    assert (answer.status, answer.text, answer.written) == (204, "", ("2", "0", "0"))
    ((header, rows),) = await world.stored()
    assert (header.tenant, header.collector, header.lane) == (ACME, COLLECTOR, Lane.BILLING)
    assert (header.sequence, header.complete_through_ms) == (None, None)
    labels = dict(UP) | OWN
    assert rows == [(labels, NOW, 1.0), (labels, NOW + 1, 2.0)]


async def test_our_headers_travel_with_the_batch(world: GatewayWorld, sender: Sender) -> None:
    assert (await sender.write(ROWS, PUSH)).status == 200
    ((header, _),) = await world.stored()
    assert (header.sequence, header.complete_through_ms) == (PushSequence(7, 3, 0), NOW)


async def test_history_goes_its_own_way(world: GatewayWorld, sender: Sender) -> None:
    old = [(UP, [(NOW - 300 * 86_400_000, 1.0)])]
    answer = await sender.write(old, PushHeaders(7, 1, PushLane.HISTORY))
    assert answer.status == 200
    assert await world.stored(LIVE_TOPIC) == []
    ((header, rows),) = await world.stored(HISTORY_TOPIC)
    assert (header.lane, len(rows)) == (Lane.HISTORY, 1)


async def test_an_empty_push_is_stored_when_it_is_ours(world: GatewayWorld, sender: Sender) -> None:
    """Ours says what it is complete through; a foreign one says nothing."""
    assert (await sender.write([], PUSH)).status == 200
    assert (await sender.write([])).status == 204
    ((header, rows),) = await world.stored()
    assert (header.complete_through_ms, rows) == (NOW, [])


async def test_another_tenants_label_is_overwritten_and_counted(world: GatewayWorld, sender: Sender) -> None:
    claim = (*UP, ("organization", "other"), ("project", "prod"))
    for _ in range(2):  # the second one is answered from memory
        assert (await sender.write([(claim, [(NOW, 1.0)])])).status == 204
    stored = await world.stored()
    assert [rows[0][0] for _, rows in stored] == [dict(UP) | OWN] * 2
    assert world.metric("byoc_gateway_labels_overwritten_total") == 2


async def test_a_foreign_push_is_written_in_part(world: GatewayWorld, sender: Sender) -> None:
    answer = await sender.write(BAD_ROWS)
    assert (answer.status, answer.written) == (400, ("2", "0", "0"))
    assert "no_metric_name: 1" in answer.text
    ((_, rows),) = await world.stored()
    assert len(rows) == 2


async def test_a_push_of_ours_is_written_whole_or_not_at_all(world: GatewayWorld, sender: Sender) -> None:
    answer = await sender.write(BAD_ROWS, PUSH)
    assert (answer.status, answer.written) == (400, ("0", "0", "0"))
    assert "nothing was written" in answer.text
    assert await world.stored() == []


async def test_a_wrong_native_histogram_is_refused_and_the_samples_beside_it_written(
    world: GatewayWorld, sender: Sender
) -> None:
    request = RW1["WriteRequest"]()
    series = request.timeseries.add(labels=[RW1["Label"](name="__name__", value="h")])
    series.histograms.add(count_int=1)
    other = request.timeseries.add(labels=[RW1["Label"](name="__name__", value="up")])
    other.samples.add(value=1, timestamp=NOW)
    other.exemplars.add(value=1, timestamp=NOW)
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    answer = await sender.post("/api/v1/write", compress(request.SerializeToString()), headers)
    assert (answer.status, answer.written) == (400, ("1", "0", "1"))
    assert "invalid_native_histogram: 1 (a count of 1 and 0 in its buckets)" in answer.text
    assert len(await world.stored()) == 1


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0x7FF0000000000002, 0x7FF0000000000002),
        (0xFFF8000000000000, 0x7FF8000000000001),
        (0x7FF8000000000000, 0x7FF8000000000001),
        (0x7FF0000000000001, 0x7FF8000000000001),
        (0x8000000000000000, 0x8000000000000000),
        (0x7FF0000000000000, 0x7FF0000000000000),
    ],
)
async def test_only_a_stale_marker_keeps_its_nan_bits(
    world: GatewayWorld, sender: Sender, sent: int, kept: int
) -> None:
    value = struct.unpack("<d", struct.pack("<Q", sent))[0]
    assert (await sender.write([(UP, [(NOW, value)])])).status == 204
    ((_, rows),) = await world.stored()
    assert struct.pack("<d", rows[0][2]) == struct.pack("<Q", kept)


@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", 204),
        ("Application/X-Protobuf; proto=io.prometheus.write.v2.Request", "Snappy", 204),
        ("application/x-protobuf;proto=prometheus.WriteRequest", "snappy", 400),
        ("application/x-protobuf", "snappy", 400),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 415),
        ("application/json", "snappy", 415),
        ("", "snappy", 415),
        ("application/x-protobuf", "gzip", 415),
        ("application/x-protobuf", "zstd", 415),
        ("application/x-protobuf", "", 415),
    ],
)
async def test_the_protocol_is_negotiated(
    world: GatewayWorld, sender: Sender, content_type: str, encoding: str, status: int
) -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    answer = await sender.write(ROWS, changed=headers)
    assert (answer.status, answer.written) == (status, ("2" if status == 204 else "0", "0", "0"))
    assert len(await world.stored()) == (status == 204)


@pytest.mark.parametrize("body", [b"", b"\x00", b"noise that is no snappy", b"\xff" * 100, compress(b"\x0a\xff")])
async def test_a_malformed_body_is_400(world: GatewayWorld, sender: Sender, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    answer = await sender.post("/api/v1/write", body, headers)
    expected = 204 if body == b"\x00" else 400  # a declared length of zero is an empty push
    assert (answer.status, answer.written) == (expected, ("0", "0", "0"))
    assert await world.stored() == []


@pytest.mark.parametrize("changed", [{"X-Byoc-Lane": "admin"}, {"X-Byoc-Epoch": "-1"}, {"X-Byoc-Tenant": "other"}])
async def test_bad_headers_of_ours_are_400(world: GatewayWorld, sender: Sender, changed: dict[str, str]) -> None:
    answer = await sender.write(ROWS, PUSH, changed=changed)
    assert answer.status == 400
    assert next(iter(changed)) in answer.text
    assert await world.stored() == []


async def test_half_our_headers_are_400(world: GatewayWorld, sender: Sender) -> None:
    assert (await sender.write(ROWS, changed={"X-Byoc-Epoch": "1"})).status == 400
    assert await world.stored() == []


async def test_a_future_sample_is_refused(world: GatewayWorld, sender: Sender) -> None:
    rows = [(UP, [(NOW, 1.0), (NOW + 3_600_000, 2.0), (-1, 3.0), (2**63 - 1, 4.0), (-(2**63), 5.0)])]
    answer = await sender.write(rows)
    assert (answer.status, answer.written[0]) == (400, "1")
    assert "timestamp_too_new: 2" in answer.text
    assert "timestamp_too_old: 2" in answer.text


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ((("__name__", "up"), ("a", "1"), ("a", "2")), "duplicate_label"),
        ((("__name__", "up"), ("", "1")), "empty_label_name"),
        ((("__name__", ""),), "no_metric_name"),
        ((("__name__", "up"), *((f"l{n}", "x") for n in range(5))), "too_many_labels"),
        ((("__name__", "up"), ("a", "é" * 40)), "label_value_too_long"),
        ((("__name__", "up"), ("a" * 300, "1")), "label_name_too_long"),
    ],
)
async def test_bad_labels_are_refused_by_reason(
    limited: GatewayWorld, labels: tuple[tuple[str, str], ...], reason: str
) -> None:
    async with Sender(limited, limited.context(limited.credentials())) as sender:
        answer = await sender.write([(labels, [(NOW, 1.0)])])
        assert (answer.status, answer.written[0]) == (400, "0")
        assert f"{reason}: 1" in answer.text
        assert limited.metric("byoc_gateway_samples_refused_total", reason=reason) == 1


async def test_over_the_rate_is_429_before_anything_is_appended(limited: GatewayWorld) -> None:
    async with Sender(limited, limited.context(limited.credentials())) as sender:
        assert (await sender.write([(UP, [(NOW + n, 1.0) for n in range(9)])], PUSH)).status == 200
        answer = await sender.write([(UP, [(NOW + n, 1.0) for n in range(9)])], PUSH)
        assert (answer.status, answer.written) == (429, ("0", "0", "0"))
        assert 7 <= int(answer.headers["Retry-After"]) <= 13  # 8 samples at one a second, and up to half more
        assert len(await limited.stored()) == 1


async def test_one_tenant_over_its_rate_slows_no_other(limited: GatewayWorld) -> None:
    full = [(UP, [(NOW + n, 1.0) for n in range(10)])]
    async with (
        Sender(limited, limited.context(limited.credentials())) as sender,
        Sender(limited, limited.context(limited.credentials(OTHER_TENANT))) as other,
    ):
        assert [(await sender.write(full)).status for _ in range(3)] == [204, 429, 429]
        assert (await other.write(full)).status == 204


async def test_a_full_series_limit_keeps_what_is_known(limited: GatewayWorld) -> None:
    def series(*names: str) -> list[tuple[tuple[tuple[str, str], ...], list[tuple[int, float]]]]:
        return [((("__name__", name),), [(NOW, 1.0)]) for name in names]

    async with Sender(limited, limited.context(limited.credentials())) as sender:
        assert (await sender.write(series("a", "b", "c"))).status == 204
        answer = await sender.write(series("a", "d"))
        assert (answer.status, answer.written[0]) == (400, "1")
        assert "active_series_limit: 1" in answer.text
        answer = await sender.write(series("b", "e"), PUSH)
        assert (answer.status, answer.written[0]) == (429, "0")
        assert "Retry-After" in answer.headers


async def test_a_decompression_bomb_is_413_and_never_unpacked(limited: GatewayWorld) -> None:
    async with Sender(limited, limited.context(limited.credentials())) as sender:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        answer = await sender.post("/api/v1/write", compress(bytes(400_000)), headers)
        assert (answer.status, answer.written) == (413, ("0", "0", "0"))
        assert "400000 bytes declared" in answer.text
        lying = b"\xff\xff\xff\xff\x0f" + compress(b"x")[1:]
        assert (await sender.post("/api/v1/write", lying, headers)).status == 413


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_oversized_body_is_413(limited: GatewayWorld, chunked: bool) -> None:
    async with Sender(limited, limited.context(limited.credentials())) as sender:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        answer = await sender.post("/api/v1/write", b"x" * 30_000, headers, chunked=chunked or None)
        assert answer.status == 413


async def test_a_slow_body_is_408_and_the_connection_ends(limited: GatewayWorld) -> None:
    context = limited.context(limited.credentials())
    reader, writer = await asyncio.open_connection("localhost", limited.server.port, ssl=context)
    writer.write(
        b"POST /api/v1/write HTTP/1.1\r\nHost: l\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Encoding: snappy\r\nContent-Length: 100\r\n\r\nabc"
    )
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    assert b" 408 " in answer.split(b"\r\n")[0]


class BrokenWriter:
    """A log writer that fails first, then works: what is appended goes to `log`."""

    def __init__(self, log: MemoryLog, failures: int, *, stuck: bool = False) -> None:
        self._log, self._failures, self._stuck = log, failures, stuck

    @property
    def max_record_bytes(self) -> int:
        return 1_000_000

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        if self._failures:
            self._failures -= 1
            if self._stuck:
                await asyncio.Event().wait()
            raise LogUnavailable("no broker answers")
        return await (await self._log.writer()).append(topic, records)

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("stuck", [False, True])
async def test_a_log_that_is_down_is_503_and_the_next_try_passes(tmp_path: Path, stuck: bool) -> None:
    log = MemoryLog()
    await log.ensure_topics({LIVE_TOPIC: 1})
    settings = GatewaySettings(append_seconds=0.2, tenant=TenantLimits(samples_per_second=0.1, burst_samples=3))
    async with (
        gateway_world(tmp_path, settings, writer=BrokenWriter(log, 1, stuck=stuck)) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        answer = await sender.write(ROWS, PUSH)
        assert (answer.status, answer.written) == (503, ("0", "0", "0"))
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await sender.write(ROWS, PUSH)).status == 200  # the first try has cost no samples of the rate


async def test_a_log_without_the_topic_costs_no_sender_its_push(tmp_path: Path) -> None:
    """The vendor's mistake must not look like the sender's: a 400 would make it drop the samples."""
    async with (
        gateway_world(tmp_path, writer=await MemoryLog().writer()) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        assert (await sender.write(ROWS, PUSH)).status == 503


async def test_too_many_pushes_wait_and_then_503(tmp_path: Path) -> None:
    log = MemoryLog()
    settings = GatewaySettings(append_seconds=1, waiting_seconds=0.1, tenant=TenantLimits(concurrent_pushes=1))
    async with (
        gateway_world(tmp_path, settings, writer=BrokenWriter(log, 9, stuck=True)) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        answers = await asyncio.gather(*(sender.write(ROWS) for _ in range(3)))
        assert [answer.status for answer in answers] == [503] * 3
        assert world.metric("byoc_gateway_pushes_total", outcome="busy") == 2


async def test_a_large_push_becomes_parts_that_grow(tmp_path: Path) -> None:
    log = MemoryLog(max_record_bytes=20_000)
    await log.ensure_topics({LIVE_TOPIC: 1})
    async with (
        gateway_world(tmp_path, writer=await log.writer()) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        world.log = log
        rows = [((("__name__", f"m{n}"),), [(NOW, float(n))]) for n in range(2000)]
        part = PushHeaders(7, 3, part=2, complete_through_ms=NOW)
        for _ in range(2):
            answer = await sender.write(rows, part)
            assert (answer.status, answer.written[0]) == (200, "2000")
        stored = await world.stored()
        first, again = stored[: len(stored) // 2], stored[len(stored) // 2 :]
        parts = [header.sequence.part for header, _ in first if header.sequence]
        assert len(parts) > 2
        assert parts == list(range(2 * 4096, 2 * 4096 + len(parts)))
        assert [header.complete_through_ms for header, _ in first] == [None] * (len(parts) - 1) + [NOW]
        assert [value for _, rows in first for _, _, value in rows] == [float(n) for n in range(2000)]
        assert [rows for _, rows in first] == [rows for _, rows in again]


async def test_a_get_is_405_and_another_path_404(sender: Sender) -> None:
    assert (await sender.post("/api/v1/push", b"", {})).status == 404


async def test_rw2_metadata_alone_is_accepted(world: GatewayWorld, sender: Sender) -> None:
    request = RW2["Request"](symbols=["", "__name__", "up"])
    request.timeseries.add(labels_refs=[1, 2]).metadata.type = 1
    assert encode_rw2([]) == RW2["Request"](symbols=[""]).SerializeToString()
    headers = {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "Content-Encoding": "snappy",
    }
    answer = await sender.post("/api/v1/write", compress(request.SerializeToString()), headers)
    assert (answer.status, answer.written) == (204, ("0", "0", "0"))


OTHER_TENANT = type(ACME)(type(ACME.organization)("other"), ACME.project)
