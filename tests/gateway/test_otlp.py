"""`/v1/metrics` on a real socket: what an exporter is answered, and what is in the log then."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from collector.wire.errors import WireError
from collector.wire.headers import PushHeaders
from kernel.clock import SystemClock
from metering.gateway.otlp.endpoint import inflate
from metering.gateway.settings import GatewaySettings, TenantLimits
from tests.gateway.test_otlp_decode import DELTA, at, empty
from tests.gateway.world import GatewayWorld, Sender, gateway_world

pytestmark = pytest.mark.usefixtures("refused_at_once")

NOW = SystemClock().now_ms()
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def request_of(values: dict[str, float], time_ms: int = NOW) -> Any:
    request, scope = empty()
    for name, value in values.items():
        at(scope.metrics.add(name=name).gauge.data_points.add(as_double=value), time_ms)
    return request


async def stored(world: GatewayWorld) -> dict[str, float]:
    return {row[0]["__name__"]: row[2] for _, batch in await world.stored() for row in batch}


@pytest.mark.parametrize("is_gzip", [False, True])
async def test_an_export_is_in_the_log_when_it_is_answered(
    world: GatewayWorld, sender: Sender, is_gzip: bool
) -> None:
    body = request_of({"temp": 1.5, "load": 2.5}).SerializeToString()
    headers = PROTOBUF | ({"Content-Encoding": "gzip"} if is_gzip else {})
    answer = await sender.post("/v1/metrics", gzip.compress(body, mtime=0) if is_gzip else body, headers)
    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (200, "", "application/x-protobuf")
    assert await stored(world) == {"temp": 1.5, "load": 2.5}
    [(header, rows)] = await world.stored()
    assert header.sequence is None
    assert {(labels["organization"], labels["project"]) for labels, _, _ in rows} == {("acme", "prod")}


async def test_json_is_taken_too(world: GatewayWorld, sender: Sender) -> None:
    point = {"asInt": "7", "timeUnixNano": str(NOW * 10**6), "exemplars": [{"traceId": "0a" * 16, "asDouble": 1}]}
    metrics = [{"name": "temp", "gauge": {"dataPoints": [point]}, "futureField": 1}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    answer = await sender.post("/v1/metrics", json.dumps(body).encode(), JSON)
    assert (answer.status, json.loads(answer.text), answer.headers["Content-Type"].partition(";")[0]) == (
        200,
        {},
        "application/json",
    )
    assert await stored(world) == {"temp": 7.0}


@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
async def test_what_is_refused_is_a_partial_success(
    world: GatewayWorld, sender: Sender, headers: dict[str, str]
) -> None:
    request = request_of({"temp": 1.5})
    metric = request.resource_metrics[0].scope_metrics[0].metrics.add(name="requests")
    metric.sum.aggregation_temporality = DELTA
    at(metric.sum.data_points.add(as_int=1))
    at(request.resource_metrics[0].scope_metrics[0].metrics.add(name="new").gauge.data_points.add(), NOW + 10**9)
    if headers is JSON:
        from google.protobuf.json_format import MessageToJson

        answer = await sender.post("/v1/metrics", MessageToJson(request).encode(), headers)
        partial = json.loads(answer.text)["partialSuccess"]
        found = int(partial["rejectedDataPoints"]), partial["errorMessage"]
    else:
        answer = await sender.post("/v1/metrics", request.SerializeToString(), headers)
        read: Any = ExportMetricsServiceResponse.FromString(answer.content)
        found = read.partial_success.rejected_data_points, read.partial_success.error_message
    assert answer.status == 200
    assert found[0] == 2
    assert "not_cumulative: 1" in found[1]
    assert "timestamp_too_new: 1" in found[1]
    assert await stored(world) == {"temp": 1.5}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"\x0a\xff", PROTOBUF, 400, 3),
        (b"{", JSON, 400, 3),
        (b'{"resourceMetrics": 5}', JSON, 400, 3),
        (b"[" * 100_000, JSON, 400, 3),
        (b"", {"Content-Type": "text/plain"}, 415, 12),
        (b"", PROTOBUF | {"Content-Encoding": "br"}, 415, 12),
        (b"no gzip", PROTOBUF | {"Content-Encoding": "gzip"}, 400, 3),
        (gzip.compress(b"x" * 1000, mtime=0)[:-5], PROTOBUF | {"Content-Encoding": "gzip"}, 400, 3),
        (b"", PROTOBUF | PushHeaders(epoch=1, sequence=1).render(), 400, 3),
    ],
)
async def test_an_error_is_a_status_in_the_encoding_of_the_request(
    world: GatewayWorld, sender: Sender, body: bytes, headers: dict[str, str], status: int, code: int
) -> None:
    answer = await sender.post("/v1/metrics", body, headers)
    assert answer.status == status
    if headers is JSON:
        assert json.loads(answer.text)["code"] == code
    else:
        assert answer.content[:2] == bytes([8, code])
    assert await world.stored() == []


async def test_a_gzip_bomb_is_413_and_never_unpacked(world: GatewayWorld, sender: Sender) -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), mtime=0)
    answer = await sender.post("/v1/metrics", bomb, PROTOBUF | {"Content-Encoding": "gzip"})
    assert answer.status == 413
    assert await world.stored() == []


def test_several_gzip_members_are_one_body() -> None:
    assert inflate(gzip.compress(b"ab", mtime=0) + gzip.compress(b"cd", mtime=0), 4) == b"abcd"


def test_a_body_of_gzip_members_without_end_is_refused() -> None:
    """What follows a member is copied for the next: 8 MiB of empty ones would be an hour of copying."""
    with pytest.raises(WireError, match="over 100 gzip members"):
        inflate(gzip.compress(b"", mtime=0) * 400_000, 4)


async def test_json_is_taken_up_to_four_mebibytes(world: GatewayWorld, sender: Sender) -> None:
    """Reading it makes objects of twenty times its size, while no other push is served."""
    compressed = gzip.compress(b"[" + b"[]," * 2**21 + b"[]]", mtime=0)
    assert (await sender.post("/v1/metrics", compressed, JSON | {"Content-Encoding": "gzip"})).status == 413


async def test_over_the_rate_is_429_with_a_time_to_come_again(tmp_path: Any) -> None:
    settings = GatewaySettings(tenant=TenantLimits(samples_per_second=1, burst_samples=1))
    async with gateway_world(tmp_path, settings) as world, Sender(world, world.context(world.credentials())) as one:
        body = request_of({f"m{n}": 1.0 for n in range(5)}).SerializeToString()
        assert (await one.post("/v1/metrics", body, PROTOBUF)).status == 200
        answer = await one.post("/v1/metrics", body, PROTOBUF)
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1


async def test_without_a_certificate_it_is_403(world: GatewayWorld) -> None:
    async with Sender(world, world.context()) as stranger:
        answer = await stranger.post("/v1/metrics", ExportMetricsServiceRequest().SerializeToString(), PROTOBUF)
    assert answer.status == 403
