"""OTLP into series: names and samples as Prometheus makes them, and what is remembered changes nothing."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, ExponentialHistogramDataPoint

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import DecodeLimits, Labels
from metering.gateway.foreign.histogram import check_histogram
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.otlp.decode import OtlpDecoder
from metering.gateway.otlp.exponential import NotConvertible, native_histogram
from metering.gateway.otlp.names import label_name, labels_of, metric_name
from metering.gateway.series import Refusal
from metering.record import STALE_NAN_BITS
from tests.effort import costly
from tests.gateway.messages import RW2

LIMITS = DecodeLimits()
NOW = 1_790_000_000_000
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


class Numbers:
    def __init__(self) -> None:
        self.labels: list[Labels] = []

    def number(self, labels: Labels) -> int:
        if labels not in self.labels:
            self.labels.append(labels)
        return self.labels.index(labels)

    def number_of(self, parts: Sequence[bytes]) -> int | None:
        try:
            texts = [part.decode() for part in parts]
        except UnicodeDecodeError:
            return None
        return self.number(tuple(zip(texts[0::2], texts[1::2], strict=True)))


class Reader:
    """A decoder and the labels behind its numbers."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.decoder = OtlpDecoder(self.numbers, 1_000_000)

    def read(self, request: Any) -> Pushed:
        return self.decoder.decode(request.SerializeToString(), LIMITS)

    def rows(self, request: Any) -> list[tuple[Labels, int, bytes]]:
        return self.flat(self.read(request))

    def flat(self, pushed: Pushed) -> list[tuple[Labels, int, bytes]]:
        columns = zip(pushed.numbers.tolist(), pushed.timestamps_ms.tolist(), pushed.values, strict=True)
        return [(self.numbers.labels[number], time, struct.pack("<d", value)) for number, time, value in columns]

    def values(self, request: Any) -> dict[str, float]:
        """By name and the labels that the metric itself has."""
        found = {}
        for labels, _, value in self.rows(request):
            named = {name: text for name, text in labels if name not in {"__name__", "job", "instance"}}
            text = ",".join(f"{name}={value}" for name, value in named.items() if not name.startswith("otel_"))
            found[f"{dict(labels)['__name__']}{{{text}}}"] = struct.unpack("<d", value)[0]
        return found


def empty(service: str = "shop", **attributes: str) -> tuple[Any, Any]:
    """A request of one resource, and its one scope."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    for key, value in {"service.name": service, "service.instance.id": "i1", **attributes}.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_metrics.add()
    scope.scope.name = "test"
    return request, scope


def at(point: Any, time_ms: int = NOW) -> Any:
    point.time_unix_nano = time_ms * 1_000_000 + 999_999
    point.start_time_unix_nano = (time_ms - 60_000) * 1_000_000
    return point


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.duration", "ms", "", "http_server_duration_milliseconds"),
        ("system.cpu.time", "s", "counter", "system_cpu_time_seconds_total"),
        ("requests.total", "1", "counter", "requests_total"),
        ("total.requests", "", "counter", "requests_total"),
        ("disk.usage", "1", "gauge", "disk_usage_ratio"),
        ("queue.size", "{items}", "gauge", "queue_size"),
        ("network.io", "By/s", "gauge", "network_io_bytes_per_second"),
        ("speed", "m/s", "gauge", "speed_meters_per_second"),
        ("memory_bytes", "By", "gauge", "memory_bytes"),
        ("a__b..c", "", "", "a_b_c"),
        ("2xx", "", "", "_2xx"),
        ("temp", "Cel", "gauge", "temp_celsius"),
        ("odd", "widget", "gauge", "odd_widget"),
        ("rate", "{req}/s", "gauge", "rate_per_second"),
        ("percent", "%", "gauge", "percent"),
    ],
)
def test_metric_names(name: str, unit: str, kind: str, expected: str) -> None:
    assert metric_name(name, unit, is_counter=kind == "counter", is_gauge=kind == "gauge") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("http.method", "http_method"), ("2xx", "key_2xx"), ("_private", "key_private"), ("a..b", "a_b"), ("", "")],
)
def test_label_names(name: str, expected: str) -> None:
    assert label_name(name) == expected


def test_labels_that_become_one_are_joined() -> None:
    assert labels_of([("a_b", "2"), ("a.b", "1"), ("c", "3")]) == {"a_b": "1;2", "c": "3"}


def test_a_resource_becomes_job_instance_and_target_info() -> None:
    request, scope = empty(**{"service.namespace": "acme", "host.name": "h1"})
    metric = scope.metrics.add(name="temp")
    at(metric.gauge.data_points.add(as_double=1.5))
    rows = Reader().rows(request)
    assert [dict(labels) for labels, _, _ in rows] == [
        {"__name__": "temp", "job": "acme/shop", "instance": "i1", "otel_scope_name": "test"},
        {"__name__": "target_info", "job": "acme/shop", "instance": "i1", "host_name": "h1"},
    ]
    assert [struct.unpack("<d", value)[0] for _, _, value in rows] == [1.5, 1.0]


def test_each_kind_of_metric() -> None:
    request, scope = empty()
    gauge = scope.metrics.add(name="temp", unit="Cel")
    at(gauge.gauge.data_points.add(as_int=-7))
    counter = scope.metrics.add(name="requests", unit="1")
    counter.sum.aggregation_temporality, counter.sum.is_monotonic = CUMULATIVE, True
    at(counter.sum.data_points.add(as_int=12)).attributes.add(key="path").value.string_value = "/a"
    up_down = scope.metrics.add(name="queue")
    up_down.sum.aggregation_temporality = CUMULATIVE
    at(up_down.sum.data_points.add(as_double=3))
    histogram = scope.metrics.add(name="latency", unit="s")
    histogram.histogram.aggregation_temporality = CUMULATIVE
    at(
        histogram.histogram.data_points.add(
            count=6, sum=4.5, bucket_counts=[1, 2, 3], explicit_bounds=[0.25, 1000000.0], min=0, max=9
        )
    )
    summary = scope.metrics.add(name="rpc")
    point = at(summary.summary.data_points.add(count=10, sum=5.5))
    point.quantile_values.add(quantile=0.5, value=0.4)
    assert Reader().values(request) == {
        "temp_celsius{}": -7,
        "requests_total{path=/a}": 12,
        "queue{}": 3,
        "latency_seconds_bucket{le=0.25}": 1,
        "latency_seconds_bucket{le=1000000}": 3,
        "latency_seconds_bucket{le=+Inf}": 6,
        "latency_seconds_sum{}": 4.5,
        "latency_seconds_count{}": 6,
        "rpc{quantile=0.5}": 0.4,
        "rpc_sum{}": 5.5,
        "rpc_count{}": 10,
    }


def test_starts_and_metadata_travel() -> None:
    reader = Reader()
    request, scope = empty()
    metric = scope.metrics.add(name="requests", description="How many.", unit="By")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = CUMULATIVE, True
    at(metric.sum.data_points.add(as_int=12))
    pushed = reader.read(request)
    assert pushed.starts_ms is not None
    assert pushed.starts_ms.tolist() == [NOW - 60_000]
    [told] = pushed.metadata
    assert (told.family, told.type, told.help, told.unit) == (
        "requests_bytes_total",
        "counter",
        "How many.",
        "bytes",
    )


def test_delta_is_refused_and_the_rest_taken() -> None:
    request, scope = empty()
    metric = scope.metrics.add(name="requests")
    metric.sum.aggregation_temporality = DELTA
    at(metric.sum.data_points.add(as_int=1))
    at(metric.sum.data_points.add(as_int=2))
    at(scope.metrics.add(name="temp").gauge.data_points.add(as_int=5))
    pushed = Reader().read(request)
    assert pushed.refused == {Refusal.TEMPORALITY: 2}
    assert "cumulative" in pushed.fault
    assert pushed.values.tolist() == [5]


def test_no_recorded_value_is_a_stale_marker() -> None:
    request, scope = empty()
    at(scope.metrics.add(name="temp").gauge.data_points.add(as_int=5, flags=1))
    metric = scope.metrics.add(name="latency")
    metric.histogram.aggregation_temporality = CUMULATIVE
    at(metric.histogram.data_points.add(count=3, sum=1, bucket_counts=[1, 2], explicit_bounds=[1], flags=1))
    rows = Reader().rows(request)
    assert {value for _, _, value in rows} == {struct.pack("<Q", STALE_NAN_BITS)}
    assert len(rows) == 5


def test_exemplars_go_to_their_bucket() -> None:
    reader = Reader()
    request, scope = empty()
    metric = scope.metrics.add(name="latency")
    metric.histogram.aggregation_temporality = CUMULATIVE
    point = at(metric.histogram.data_points.add(count=3, sum=1, bucket_counts=[1, 2, 0], explicit_bounds=[1, 2]))
    exemplar = at(ExemplarOf(point).add(as_double=1.5, trace_id=b"\x01" * 16, span_id=b"\x02" * 8))
    exemplar.filtered_attributes.add(key="user.id").value.int_value = 7
    [found] = reader.read(request).exemplars
    assert dict(reader.numbers.labels[found.number])["le"] == "2"
    assert found.labels == (("span_id", "02" * 8), ("trace_id", "01" * 16), ("user_id", "7"))
    assert (found.value, found.timestamp_ms) == (1.5, NOW)


class ExemplarOf:
    """`point.exemplars`, whose messages have no start."""

    def __init__(self, point: Any) -> None:
        self._exemplars = point.exemplars

    def add(self, **fields: Any) -> Any:
        exemplar = self._exemplars.add(**fields)
        exemplar.time_unix_nano = NOW * 1_000_000
        return _Startless(exemplar)


class _Startless:
    def __init__(self, message: Any) -> None:
        object.__setattr__(self, "message", message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "time_unix_nano":
            self.message.time_unix_nano = value


counts = st.lists(st.integers(0, 50), max_size=40)


@given(st.integers(-4, 20), st.integers(-300, 300), counts, st.integers(-300, 300), counts, st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_an_exponential_histogram_keeps_every_observation_in_its_bucket(
    scale: int, offset: int, positive: list[int], low: int, negative: list[int], zero: int
) -> None:
    total = sum(positive) + sum(negative) + zero
    point = ExponentialHistogramDataPoint(count=total, sum=1.5, scale=scale, zero_count=zero, time_unix_nano=10**15)
    point.positive.offset, point.negative.offset = offset, low
    point.positive.bucket_counts.extend(positive)
    point.negative.bucket_counts.extend(negative)
    message = native_histogram(point)
    assert check_histogram(message) == (10**9, None)
    read: Any = RW2["Histogram"].FromString(message)
    shift = max(0, scale - 8)
    assert read.schema == scale - shift
    assert (read.count_int, read.zero_count_int, read.sum) == (total, zero, 1.5)
    for spans, deltas, first, sent in (
        (read.positive_spans, read.positive_deltas, offset, positive),
        (read.negative_spans, read.negative_deltas, low, negative),
    ):
        expected: dict[int, int] = {}
        for index, count in enumerate(sent, first):
            # the bucket's upper bound is 2^((index + 1) / 2^scale); Prometheus' bucket i ends at 2^(i / 2^schema)
            upper = math.ceil((index + 1) / 2**shift)
            expected[upper] = expected.get(upper, 0) + count
        found, index, value, at_delta = {}, 0, 0, iter(deltas)
        for span in spans:
            index += span.offset
            for _ in range(span.length):
                value += next(at_delta)
                found[index] = value
                index += 1
        assert {key: count for key, count in found.items() if count} == {
            key: count for key, count in expected.items() if count
        }


def test_a_scale_that_has_no_schema_is_refused() -> None:
    with pytest.raises(NotConvertible, match="scale -5"):
        native_histogram(ExponentialHistogramDataPoint(scale=-5))


def body_of(values: list[int], doubles: list[float], buckets: list[int], time_ms: int) -> Any:
    request, scope = empty(**{"host.name": "h"})
    for number, value in enumerate(values):
        at(scope.metrics.add(name=f"i{number}").gauge.data_points.add(as_int=value), time_ms)
    for number, double in enumerate(doubles):
        at(scope.metrics.add(name=f"d{number}").gauge.data_points.add(as_double=double), time_ms)
    metric = scope.metrics.add(name="latency")
    metric.histogram.aggregation_temporality = CUMULATIVE
    bounds = [float(number) for number in range(len(buckets) - 1)]
    point = metric.histogram.data_points.add(
        count=max(1, sum(buckets)), sum=1.0, bucket_counts=buckets, explicit_bounds=bounds, max=float(sum(buckets))
    )
    at(point, time_ms)
    return request


numbers = st.integers(-(2**63), 2**63 - 1)
bodies = st.tuples(
    st.lists(numbers, min_size=3, max_size=3),
    st.lists(st.floats(), min_size=2, max_size=2),
    st.lists(st.integers(0, 2**40), min_size=4, max_size=4),
    st.integers(NOW, NOW + 10**9),
)


@given(st.lists(bodies, min_size=2, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_template_reads_what_a_walk_reads(told: list[tuple[list[int], list[float], list[int], int]]) -> None:
    reader = Reader()
    for one in told:
        request = body_of(*one)
        assert reader.rows(request) == Reader().rows(request)
    assert len(reader.decoder._templates) == 1


@given(st.binary(min_size=1, max_size=6), st.integers(0, 2000))
@costly(300)
def test_a_damaged_body_is_refused_or_read_as_nobody_knew_it(noise: bytes, place: int) -> None:
    reader = Reader()
    sane = body_of([1, 2, 3], [1.0, 2.0], [1, 2, 3, 4], NOW).SerializeToString()
    reader.decoder.decode(sane, LIMITS)
    place %= len(sane)
    body = sane[:place] + noise + sane[place + len(noise) :]
    fresh = Reader()
    try:
        expected = fresh.flat(fresh.decoder.decode(body, LIMITS))
    except WireError:
        with pytest.raises(WireError):
            reader.decoder.decode(body, LIMITS)
        return
    assert reader.flat(reader.decoder.decode(body, LIMITS)) == expected


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_or_empty(noise: bytes) -> None:
    reader = Reader()
    try:
        reader.decoder.decode(noise, LIMITS)
    except WireError:
        return


def test_a_body_over_a_limit_is_too_large() -> None:
    request = body_of(list(range(50)), [], [1, 2], NOW)
    with pytest.raises(BodyTooLarge, match="samples"):
        Reader().decoder.decode(request.SerializeToString(), DecodeLimits(max_samples=40))
    with pytest.raises(BodyTooLarge, match="fields"):
        Reader().decoder.decode(b"\x12\x00" * 100_000, DecodeLimits(max_samples=10_000))
