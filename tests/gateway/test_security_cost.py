"""What one tenant's worst bodies cost: their own turns and their own rate, and nobody else's."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from collector.wire.headers import CONTENT_TYPE_RW1, CONTENT_TYPE_RW2
from collector.wire.snappy import compress
from kernel.clock import SystemClock
from metering.gateway.active import PLACE_BYTES
from metering.gateway.admission import Admission, Moment, admit
from metering.gateway.buckets import TokenBucket
from metering.gateway.foreign.rw2 import Rw2Decoder
from metering.gateway.series import Refusal
from metering.gateway.settings import BodyLimits, GatewaySettings, TenantLimits
from metering.gateway.table import SeriesTable
from metering.gateway.tenants import TenantState
from tests.gateway.messages import encode_rw1, encode_rw2
from tests.gateway.world import Sender, gateway_world
from tests.identity.world import ACME, OTHER

NOW = SystemClock().now_ms()
HEADERS = {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "snappy"}
UNREAD_FIELDS = b"\x78\x00" * 1_000_000  # a field of number 15, a million times: no sample, and half a second
# 30,000 series without a name, none of which can be remembered.
WORTHLESS = encode_rw2([((("a", str(number)),), []) for number in range(30_000)])

LATE = encode_rw1([((("a", str(number)),), []) for number in range(60_000)]) + b"\x07"
OLD = {"Content-Type": CONTENT_TYPE_RW1}


def delimited(tag: bytes, content: bytes) -> bytes:
    length, rest = b"", len(content)
    while rest > 0x7F:
        length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
    return tag + length + bytes([rest]) + content


def test_references_in_many_pieces_take_time_with_their_number_not_with_its_square() -> None:
    def seconds(pieces: int) -> float:
        references = delimited(b"\x0a", bytes(2000)) + b"\x0a\x00" * pieces
        body = delimited(b"\x22", b"") + delimited(b"\x2a", references)
        started = time.thread_time()
        decoder = Rw2Decoder(SeriesTable(ACME, TenantLimits()), 0)
        decoder.decode(body, BodyLimits().for_decoding())
        return time.thread_time() - started

    few = seconds(1)
    many = seconds(200_000)
    assert many - few < 0.8  # copying the 2,000 at each piece takes over a second on any machine of today


async def test_a_body_of_nothing_is_paid_for_by_its_sender_alone(tmp_path: Path) -> None:
    settings = GatewaySettings(tenant=TenantLimits(samples_per_second=1000, burst_samples=100))
    rows = [((("__name__", "up"),), [(NOW, 1.0)])]
    async with gateway_world(tmp_path, settings) as world:
        contexts = [world.context(world.credentials(tenant)) for tenant in (ACME, OTHER)]
        async with Sender(world, contexts[0]) as acme, Sender(world, contexts[1]) as other:
            answer = await acme.post("/api/v1/write", compress(UNREAD_FIELDS), HEADERS)
            assert answer.status == 413, "it breaks no rule of protobuf, but nobody means it"
            assert (await acme.post("/api/v1/write", compress(WORTHLESS), HEADERS)).status == 204
            limited = await acme.write(rows)
            assert limited.status == 429
            assert int(limited.headers["Retry-After"]) >= 1
            assert (await other.write(rows)).status == 204


async def test_so_is_one_that_is_refused_at_its_end(tmp_path: Path) -> None:
    settings = GatewaySettings(tenant=TenantLimits(samples_per_second=1000, burst_samples=100))
    async with (
        gateway_world(tmp_path, settings) as world,
        Sender(world, world.context(world.credentials(ACME))) as sender,
    ):
        assert (await sender.post("/api/v1/write", compress(LATE), HEADERS | OLD)).status == 400
        assert (await sender.write([((("__name__", "up"),), [(NOW, 1.0)])])).status == 429


def test_a_charge_is_a_debt() -> None:
    bucket = TokenBucket.full(10, 20, 0.0)
    bucket.charge(50, 0.0)
    assert bucket.wait_seconds(1, 0.0) == pytest.approx(3.1)
    bucket.charge(0, 3.2)
    assert bucket.take(1, 3.2) == 0


@pytest.mark.parametrize("concurrent", [1, 2, 8])
async def test_a_turn_to_decode_is_left_for_the_other_tenants(tmp_path: Path, concurrent: int) -> None:
    from metering.gateway.app import INSIDE

    async with gateway_world(tmp_path, GatewaySettings(concurrent_decodes=concurrent)) as world:
        app = world.server._runner.app
        assert app is not None
        state = app[INSIDE].tenants.state(ACME, 0.0)
        for _ in range(max(1, concurrent - 1)):
            await state.decodes.acquire()
        assert state.decodes.locked()


def labelled(number: int, size: int) -> bytes:
    labels = [("__name__", "m"), ("number", str(number))]
    labels += [(f"label_{index}", "x" * 4000) for index in range(size // 4000)]
    return encode_rw2([(tuple(labels), [(NOW, 1.0)])])


def test_long_labels_take_the_places_of_many_series() -> None:
    state = TenantState(ACME, TenantLimits(active_series=100), 0.0)

    def push(number: int, size: int) -> Admission:
        pushed = state.rw2.decode(labelled(number, size), BodyLimits().for_decoding())
        return admit(pushed, state, Moment(NOW, 1.0), whole=False)

    taken = [push(number, 28_000) for number in range(20)]
    written = [len(one.batch) for one in taken]
    assert written == [1] * 3 + [0] * 17, "28 places each, of a hundred"
    assert taken[-1].refused == Counter({Refusal.ACTIVE_SERIES: 1})
    kept = [state.table.canonical[number] for one in taken for number in one.batch.numbers.tolist()]
    assert sum(map(len, kept)) <= 100 * PLACE_BYTES
    assert len(push(0, 28_000).batch) == 1, "a known series passes"
    assert len(push(99, 0).batch) == 1, "and a short one still fits"
