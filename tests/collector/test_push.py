"""The rules of the push, against a real server over TLS: what is repeated, put aside, believed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from collector.app import Shipping
from collector.labels import make_labels
from collector.metrics import CollectorMetrics
from collector.push.answer import Answer, Verdict
from collector.push.backoff import Backoff
from collector.push.bisect import MAX_PARTS, Plan
from collector.push.version import VersionMemory, WireProtocol
from collector.settings import load_collector_settings
from collector.spool.frame import PayloadKind
from collector.spool.options import PayloadDraft
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.headers import SAMPLES_WRITTEN, PushLane
from collector.wire.series import WireSeries
from collector.wire.snappy import compress
from kernel.clock import SystemClock, VirtualClock
from tests.collector.world import Received, ScriptedGateway, run_gateway, serve_gateway, until, write_config

WRITTEN = {SAMPLES_WRITTEN: "0"}


def draft(*names: str, at: int = 1000) -> PayloadDraft:
    series = [WireSeries(make_labels({"__name__": name}), ((at, 1.0),)) for name in names]
    return PayloadDraft(len(series), b"", compress(encode_rw2(series)), at)


@dataclass
class World:
    gateway: ScriptedGateway
    shipping: Shipping
    folder: Path

    async def ship(self, *drafts: PayloadDraft) -> None:
        for one in drafts:
            await self.shipping.spool.append(one)
        await self.shipping.spool.drained()

    def names(self) -> list[str]:
        return [series for series, _, _ in self.gateway.rows()]


@asynccontextmanager
async def shipping_to(gateway: ScriptedGateway, folder: Path, **fields: object) -> AsyncIterator[Shipping]:
    """A lane that pushes to `gateway`; `fields` are added to the settings of the way there."""
    settings = load_collector_settings(write_config(folder, gateway.url, **{"gateway+": fields}))
    shipping = Shipping(settings, PushLane.BILLING, SystemClock(), CollectorMetrics())
    await shipping.identity.ensure()
    await shipping.open()
    shipping.start()
    try:
        yield shipping
    finally:
        await shipping.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with run_gateway(tmp_path) as gateway, shipping_to(gateway, tmp_path) as shipping:
        yield World(gateway, shipping, tmp_path)


async def test_a_push_carries_who_it_is_and_what_it_is(world: World) -> None:
    await world.ship(draft("a", at=5), draft("b", at=6))
    first, second = world.gateway.requests
    assert [(one.push.sequence, one.push.part, one.push.complete_through_ms) for one in (first, second)] == [
        (1, 0, 5),
        (2, 0, 6),
    ]
    assert first.push.epoch == world.shipping.spool.epoch
    assert first.headers["Content-Encoding"] == "snappy"
    assert first.headers["Content-Type"] == "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert first.headers["X-Prometheus-Remote-Write-Version"] == "2.0.0"


@pytest.mark.parametrize("status", [500, 502, 503, 429, 401, 403, 404, 409, 301, 422])
async def test_what_says_nothing_about_the_samples_is_tried_again_unchanged(world: World, status: int) -> None:
    world.gateway.script = lambda _: web.Response(status=status) if len(world.gateway.requests) < 2 else None
    await world.ship(draft("a"), draft("b"))
    assert [one.push.sequence for one in world.gateway.requests] == [1, 1, 1, 2]
    assert len({one.raw for one in world.gateway.requests[:3]}) == 1
    assert world.names() == ["a", "b"]


async def test_a_400_from_something_that_is_no_gateway_drops_nothing(world: World) -> None:
    world.gateway.script = lambda _: web.Response(status=400) if len(world.gateway.requests) < 3 else None
    await world.ship(draft("a", "b"))
    assert [one.push.part for one in world.gateway.requests] == [0, 0, 0, 0]
    assert world.names() == ["a", "b"]
    assert world.shipping.dead_letters.load() == []


def refuse(*names: str, status: int = 400) -> object:
    def script(received: Received) -> web.Response | None:
        if {series for series, _, _ in received.rows} & set(names):
            return web.Response(status=status, text=f"bad: {names}", headers=WRITTEN)
        return None

    return script


async def test_a_bad_sample_is_put_aside_and_the_rest_arrives_in_parts(world: World) -> None:
    world.gateway.script = refuse("c", "f")  # type: ignore[assignment]
    await world.ship(draft(*"abcdefgh", at=7), draft("next"))
    assert sorted(world.names()) == ["a", "b", "d", "e", "g", "h", "next"]
    letters = world.shipping.dead_letters.load()
    assert [(one["series"], one["samples"], one["sequence"]) for one in letters] == [
        ("c", [[7, "1.0"]], 1),
        ("f", [[7, "1.0"]], 1),
    ]
    assert all("bad: " in one["reason"] for one in letters)
    parts = [one.push.part for one in world.gateway.requests if one.push.sequence == 1]
    assert parts == list(range(len(parts)))
    taken = [one.push for one in world.gateway.taken if one.push.sequence == 1]
    assert [push.complete_through_ms for push in taken] == [None] * (len(taken) - 1) + [7]


async def test_a_part_that_fails_for_another_reason_is_tried_again_under_its_number(world: World) -> None:
    def script(received: Received) -> web.Response | None:
        if received.push.part == 0:
            return web.Response(status=400, headers=WRITTEN)
        return web.Response(status=503) if len(world.gateway.requests) in (1, 2, 4) else None

    world.gateway.script = script
    await world.ship(draft("a", "b"))
    assert [one.push.part for one in world.gateway.requests] == [0, 1, 1, 1, 2, 2]
    assert world.names() == ["a", "b"]


async def test_a_push_that_is_too_large_is_cut(world: World) -> None:
    world.gateway.script = lambda one: web.Response(status=413) if len(one.rows) > 2 else None
    await world.ship(draft("a", "b", "c", "d", "e"))
    assert sorted(world.names()) == ["a", "b", "c", "d", "e"]
    assert world.shipping.dead_letters.load() == []


@pytest.mark.parametrize("answer", ["415", "2xx without Written"])
async def test_version_1_after_a_refusal_is_remembered_over_a_restart(tmp_path: Path, answer: str) -> None:
    def script(received: Received) -> web.Response | None:
        if received.version_2:
            return web.Response(status=415 if answer == "415" else 204)
        return web.Response(status=204)

    async with run_gateway(tmp_path) as gateway:
        gateway.script = script
        for name in ("a", "b"):
            async with shipping_to(gateway, tmp_path) as shipping:
                await World(gateway, shipping, tmp_path).ship(draft(name))
        assert [one.version_2 for one in gateway.requests] == [True, False, False]
        assert [one.rows for one in gateway.requests if not one.version_2] == [
            [("a", 1000, 1.0)],
            [("b", 1000, 1.0)],
        ]
        assert gateway.requests[1].headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"


async def test_what_a_dead_gateway_missed_arrives_when_it_is_back_in_order(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway, shipping_to(gateway, tmp_path) as shipping:
        await World(gateway, shipping, tmp_path).ship(draft("first"))
        port = gateway.port
    async with shipping_to_again(gateway, tmp_path, port) as shipping:
        for number in range(20):
            await shipping.spool.append(draft(f"m{number}"))
        await until(lambda: shipping.uploader is not None and shipping.uploader.last_error is not None)
        async with serve_gateway(gateway, tmp_path, port):
            await shipping.spool.drained()
    assert [series for series, _, _ in gateway.rows()] == ["first", *(f"m{number}" for number in range(20))]


@asynccontextmanager
async def shipping_to_again(gateway: ScriptedGateway, folder: Path, port: int) -> AsyncIterator[Shipping]:
    gateway.port = port
    async with shipping_to(gateway, folder) as shipping:
        yield shipping


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("999999999999", 3600), ("Thu, 01 Jan 2026 00:00:30 GMT", 30), ("-5", None),
     ("soon", None),
     ("Wed, 31 Dec 2025 00:00:00 GMT", 0), ("", None)],
)  # fmt: skip
def test_retry_after_is_read_and_bounded(text: str, seconds: float | None) -> None:
    assert Answer(503, headers={"Retry-After": text}).retry_after_seconds(NOW) == seconds


def test_verdicts() -> None:
    frames, rw2, rw1, _ = WireProtocol
    cases: list[tuple[int, dict[str, str], WireProtocol, Verdict]] = [
        (204, WRITTEN, rw2, Verdict.ACCEPTED),
        (200, {}, rw2, Verdict.OTHER_VERSION),
        (200, {}, rw1, Verdict.ACCEPTED),
        (415, {}, frames, Verdict.OTHER_VERSION),
        (415, {}, rw2, Verdict.OTHER_VERSION),
        (415, {}, rw1, Verdict.RETRY),
        (409, {}, frames, Verdict.UNKNOWN_STATE),
        (409, {}, rw2, Verdict.RETRY),
        (400, WRITTEN, rw1, Verdict.REJECTED),
        (400, WRITTEN, frames, Verdict.REJECTED),
        (400, {}, rw2, Verdict.RETRY),
        (400, {}, frames, Verdict.OTHER_VERSION),
        (413, {}, rw2, Verdict.TOO_LARGE),
        (0, {}, rw2, Verdict.RETRY),
        (302, WRITTEN, rw2, Verdict.RETRY),
    ]
    for status, headers, protocol, verdict in cases:
        assert Answer(status, headers=headers).verdict(protocol) is verdict
    assert Answer(400).verdict(frames, took_frames=True) is Verdict.RETRY  # a proxy on the way, not the gateway


def test_backoff_grows_to_its_bound_with_jitter_and_keeps_retry_after() -> None:
    backoff = Backoff(1, 60, random.Random(7))
    waits = [backoff.next_seconds() for _ in range(12)]
    for number, wait in enumerate(waits):
        ceiling = min(60, 2**number)
        assert ceiling / 2 <= wait <= ceiling
    assert len(set(waits)) == len(waits)
    assert 30 <= backoff.next_seconds(30) <= 30 * 1.25
    backoff.reset()
    assert backoff.next_seconds() <= 1


def test_version_2_is_asked_for_again_after_a_day(tmp_path: Path) -> None:
    clock = VirtualClock()
    VersionMemory(tmp_path / "version.json", clock).refused(WireProtocol.RW2)
    VersionMemory(tmp_path / "version.json", clock).refused(WireProtocol.FRAMES)
    memory = VersionMemory(tmp_path / "version.json", clock)
    assert [memory.choose(kind) for kind in PayloadKind] == [WireProtocol.RW1, WireProtocol.RW1]
    clock.step_wall(24 * 3600)
    assert [memory.choose(kind) for kind in PayloadKind] == [WireProtocol.RW2, WireProtocol.FRAMES]


def test_a_gateway_that_refuses_everything_ends_in_a_bounded_number_of_parts() -> None:
    plan = Plan(1, 1, 1, ((0, 50_000), (50_000, 100_000)))
    sent, covered = 0, 0
    while plan.ranges:
        sent += 1
        if plan.is_smallest:
            start, stop = plan.current
            covered += stop - start
            plan = plan.settled()
        else:
            plan = plan.split()
    assert covered == 100_000
    assert sent <= MAX_PARTS + 40
