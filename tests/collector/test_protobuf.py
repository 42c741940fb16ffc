"""Protobuf exposition: what the protobuf runtime encodes is read as meant; a real Prometheus stores the same."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exposition import ExpositionError
from collector.exposition.columns import MetricType, RawExemplar, Rows
from collector.exposition.histogram import with_timestamp
from collector.exposition.lexing import OPENMETRICS, parse_key
from collector.exposition.numbers import render_bound
from collector.exposition.protobuf import ACCEPTED, ProtobufReader, is_protobuf
from collector.labels import METRIC_NAME, make_labels, render_labels
from tests.collector.client_messages import (
    CLIENT,
    COUNTER,
    GAUGE,
    GAUGE_HISTOGRAM,
    HISTOGRAM,
    PACKED,
    SUMMARY,
    UNTYPED,
    WRITE,
    delimited,
)
from tests.collector.world import Page, run_target
from tests.effort import costly
from tests.services.fixtures import StartPrometheus
from tests.services.http_service import HttpService

NUMBERS = st.floats(allow_nan=False)
LABELS = st.dictionaries(st.text(min_size=1, max_size=6), st.text(max_size=8), max_size=3)


def family(name: str, kind: int, *metrics: dict[str, Any], of: dict[str, Any] = CLIENT) -> Any:
    return of["MetricFamily"](name=name, help="a help", type=kind, metric=metrics)


def label_pairs(labels: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in labels.items()]


def read(*families: Any, **options: bool) -> Rows:
    return ProtobufReader(**options).read(delimited(*families))


def by_key(rows: Rows) -> dict[bytes, float]:
    return dict(zip(rows.keys, rows.values, strict=True))


@costly(100)
@given(st.lists(st.tuples(LABELS, NUMBERS, st.integers(0, 2**40)), max_size=5), st.text(min_size=1, max_size=9))
def test_values_labels_and_times_are_those_that_were_meant(
    series: list[tuple[dict[str, str], float, int]], name: str
) -> None:
    metrics = [
        {"label": label_pairs(labels), "gauge": {"value": value}, **({"timestamp_ms": at} if at else {})}
        for labels, value, at in series
    ]
    reader, body = ProtobufReader(), delimited(family(name, GAUGE, *metrics))
    for _ in range(2):  # the second time what was remembered is used
        rows = reader.read(body)
        assert [parse_key(key, OPENMETRICS) for key in rows.keys] == [(name, labels) for labels, _, _ in series]
        assert rows.values == [value for _, value, _ in series]
        assert rows.timestamps == {row: at for row, (_, _, at) in enumerate(series) if at}
        assert rows.types == {name: MetricType.GAUGE}


def test_the_kinds_and_what_becomes_of_them() -> None:
    started = {"seconds": 1_700_000_000, "nanos": 250_000_000}
    exemplar = {"label": label_pairs({"trace_id": "t"}), "value": 3.5, "timestamp": {"seconds": 9}}
    rows = read(
        family("a_total", COUNTER, {"counter": {"value": 2, "exemplar": exemplar, "created_timestamp": started}}),
        family("b", UNTYPED, {"untyped": {"value": math.inf}}),
        family(
            "c", SUMMARY,
            {"label": label_pairs({"x": 'q"\\\n'}), "summary": {
                "sample_count": 4, "sample_sum": 1.5, "created_timestamp": started,
                "quantile": [{"quantile": 0.5, "value": math.nan}, {"quantile": 1, "value": 7}],
            }},
        ),
        family("d", HISTOGRAM, {"histogram": {
            "sample_count": 5, "sample_sum": 9, "bucket": [
                {"cumulative_count": 1, "upper_bound": 0.5},
                {"cumulative_count": 3, "upper_bound": 1e6, "exemplar": exemplar},
            ]}}),
    )  # fmt: skip
    found = by_key(rows)
    label = b'x="q\\"\\\\\\n"'
    assert math.isnan(found.pop(b"c{" + label + b',quantile="0.5"}'))
    assert found == {
        b"a_total": 2, b"b": math.inf, b"c_count{" + label + b"}": 4, b"c_sum{" + label + b"}": 1.5,
        b"c{" + label + b',quantile="1.0"}': 7, b"d_count": 5, b"d_sum": 9, b'd_bucket{le="0.5"}': 1,
        b'd_bucket{le="1e+06"}': 3, b'd_bucket{le="+Inf"}': 5,
    }  # fmt: skip
    place = rows.keys.index(b'd_bucket{le="1e+06"}')
    meant = [RawExemplar({"trace_id": "t"}, 3.5, 9000)]
    assert rows.exemplars == {0: meant, place: meant}
    assert rows.created == dict.fromkeys((0, 2, 3), 1_700_000_000_250)
    assert list(rows.types.values()) == ["counter", "unknown", "summary", "histogram"]


NATIVE = {
    "sample_count": 12, "sample_sum": -3.25, "schema": -1, "zero_threshold": 0.001, "zero_count": 2,
    "negative_span": [{"offset": -2, "length": 1}, {"offset": 3, "length": 1}], "negative_delta": [3, -1],
    "positive_span": [{"offset": 0, "length": 2}], "positive_delta": [1, 3],
    "bucket": [{"cumulative_count": 12, "upper_bound": math.inf}],
}  # fmt: skip


@pytest.mark.parametrize("of", [CLIENT, PACKED], ids=["one by one", "packed"])
def test_a_native_histogram_becomes_the_message_of_remote_write(of: dict[str, Any]) -> None:
    created = {"created_timestamp": {"seconds": 5}}
    rows = read(family("h", HISTOGRAM, {"histogram": {**NATIVE, **created}}, of=of))
    assert (rows.keys, rows.values) == ([b"h"], [0.0])
    message = WRITE["Histogram"].FromString(with_timestamp(rows.histograms[0], 1234))
    assert message == WRITE["Histogram"](
        count_int=12, sum=-3.25, schema=-1, zero_threshold=0.001, zero_count_int=2,
        negative_spans=[{"offset": -2, "length": 1}, {"offset": 3, "length": 1}], negative_deltas=[3, -1],
        positive_spans=[{"offset": 0, "length": 2}], positive_deltas=[1, 3], timestamp=1234, start_timestamp=5000,
    )  # fmt: skip
    assert (
        b"\x08\x0c" in rows.histograms[0]
    )  # the count is there even as 0: it says that this is no float histogram


def test_float_and_gauge_histograms() -> None:
    rows = read(
        family("h", GAUGE_HISTOGRAM, {"histogram": {
            "sample_count_float": 2.5, "sample_sum": 1, "schema": 3, "zero_count_float": 0.5,
            "positive_span": [{"offset": 1, "length": 1}], "positive_count": [2.0],
            "negative_span": [{"offset": 1, "length": 1}], "negative_count": [0.25],
        }}),
    )  # fmt: skip
    message = WRITE["Histogram"].FromString(rows.histograms[0])
    assert (message.count_float, message.zero_count_float, message.reset_hint) == (2.5, 0.5, 3)
    assert (list(message.positive_counts), list(message.negative_counts)) == ([2.0], [0.25])


def test_classic_buckets_beside_native_ones_come_when_asked_for() -> None:
    both = family("h", HISTOGRAM, {"histogram": NATIVE})
    assert read(both).keys == [b"h"]
    assert read(both, classic=True).keys == [b"h", b"h_count", b"h_sum", b'h_bucket{le="+Inf"}']
    assert read(both, native=False).keys == [b"h_count", b"h_sum", b'h_bucket{le="+Inf"}']
    empty = {"sample_count": 0, "positive_span": [{"offset": 0, "length": 0}]}
    assert read(family("h", HISTOGRAM, {"histogram": empty})).histograms.keys() == {0}


BODY = delimited(
    family("h", HISTOGRAM, {"label": label_pairs({"a": "b"}), "histogram": NATIVE, "timestamp_ms": 5}),
    family("c", COUNTER, {"counter": {"value": 1, "exemplar": {"label": label_pairs({"t": "x"}), "value": 1}}}),
)


@given(st.integers(0, len(BODY) - 1), st.integers(0, 255))
def test_any_damage_is_refused_or_read_and_nothing_else(place: int, byte: int) -> None:
    for body in (BODY[:place], BODY[:place] + bytes((byte,)) + BODY[place + 1 :]):
        try:
            rows = ProtobufReader().read(body)
        except ExpositionError:
            continue
        assert len(rows.keys) == len(rows.values)
        for key in rows.keys:
            parse_key(key, OPENMETRICS)


@pytest.mark.parametrize(
    "wrong",
    [
        family("", GAUGE, {"gauge": {"value": 1}}),
        family("a", GAUGE, {"label": [{"name": "", "value": "x"}], "gauge": {"value": 1}}),
        family("a", GAUGE, {"label": [{"name": "x", "value": value} for value in "12"], "gauge": {"value": 1}}),
        family("a", SUMMARY, {"label": label_pairs({"quantile": "1"}), "summary": {"quantile": [{"quantile": 1}]}}),
    ],
)  # fmt: skip
def test_what_is_no_series_fails_the_scrape(wrong: Any) -> None:
    with pytest.raises(ExpositionError):
        read(wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    # as Go 1.26 prints them: strconv.FormatFloat(value, 'g', -1, 64)
    [(0.005, "0.005"), (1e6, "1e+06"), (123456, "123456.0"), (1234567, "1.234567e+06"), (1e22, "1e+22"),
     (0.0001, "0.0001"), (0.00001, "1e-05"), (12345678.5, "1.23456785e+07"), (1e5, "100000.0"),
     (2.5e-10, "2.5e-10"), (1, "1.0"), (0, "0.0"), (-1, "-1.0"), (-0.0, "-0.0"), (math.inf, "+Inf"),
     (-math.inf, "-Inf"), (math.nan, "NaN"), (1.5e-300, "1.5e-300"), (4.9e-324, "5e-324"), (99.99, "99.99")],
)  # fmt: skip
def test_bounds_are_written_as_go_does(value: float, text: str) -> None:
    assert render_bound(value) == text


def test_the_content_type_is_known_by_its_parameters() -> None:
    assert is_protobuf(ACCEPTED)
    assert is_protobuf(
        'Application/vnd.google.protobuf; encoding="delimited"; proto=io.prometheus.client.MetricFamily'
    )
    assert not is_protobuf(
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text"
    )
    assert not is_protobuf("text/plain")


# -- a real Prometheus ---------------------------------------------------------------------------------------


def query(server: HttpService, expression: str) -> list[Any]:
    answer = json.loads(server.get(f"/api/v1/query?query={quote(expression)}"))
    return list(answer["data"]["result"])


def named(metric: dict[str, str]) -> str:
    return render_labels(make_labels({n: v for n, v in metric.items() if n not in ("job", "instance")}))


def rendered(key: bytes) -> str:
    name, labels = parse_key(key, OPENMETRICS)
    return render_labels(make_labels({**labels, METRIC_NAME: name}))


def buckets_of(message: bytes) -> tuple[float, float, list[tuple[float, float, float]]]:
    """Count, sum and non-empty buckets (lower, upper, count) of an integer histogram, by what schemas mean."""
    found = WRITE["Histogram"].FromString(message)
    base = 2.0 ** (2.0**-found.schema)
    buckets = []
    for sign, spans, deltas in ((-1, found.negative_spans, found.negative_deltas),
                                (1, found.positive_spans, found.positive_deltas)):  # fmt: skip
        index, count, values = 0, 0, iter(deltas)
        for span in spans:
            index += span.offset
            for _ in range(span.length):
                count += next(values)
                edges = sorted((sign * base ** (index - 1), sign * base**index))
                buckets.append((edges[0], edges[1], float(count)))
                index += 1
    if found.zero_count_int:
        buckets.append((-found.zero_threshold, found.zero_threshold, float(found.zero_count_int)))
    return float(found.count_int), found.sum, sorted(one for one in buckets if one[2])


@pytest.mark.services
async def test_prometheus_stores_the_same(start_prometheus: StartPrometheus) -> None:
    finer = {"sample_count": 9, "sample_sum": 4.5, "schema": 2, "zero_threshold": 0.0,
             "positive_span": [{"offset": -3, "length": 2}, {"offset": 2, "length": 1}],
             "positive_delta": [2, 3, -3]}  # fmt: skip
    body = delimited(
        family("milvus_native", HISTOGRAM, {"label": label_pairs({"q": 'x"y\\z'}), "histogram": NATIVE},
               {"label": label_pairs({"q": "fine"}), "histogram": finer}),
        family("milvus_classic", HISTOGRAM, {"histogram": {"sample_count": 4, "sample_sum": 2.5, "bucket": [
            {"cumulative_count": 1, "upper_bound": 0.25}, {"cumulative_count": 4, "upper_bound": 2e6}]}}),
        family("milvus_summary", SUMMARY, {"summary": {
            "sample_count": 3, "sample_sum": 6, "quantile": [{"quantile": 0.99, "value": 1.5}]}}),
        family("milvus_total", COUNTER, {"counter": {"value": 5}}, {"label": label_pairs({"a": "b"}),
                                                                    "counter": {"value": 6}}),
        family("milvus_gauge", GAUGE, {"gauge": {"value": math.inf}, "label": label_pairs({"x": "ü", "y": ""})}),
        family("milvus_untyped", UNTYPED, {"untyped": {"value": -1.25}}),
    )  # fmt: skip
    rows = ProtobufReader().read(body)
    plain = {rendered(k): v for row, (k, v) in enumerate(zip(rows.keys, rows.values, strict=True))
             if row not in rows.histograms}  # fmt: skip
    native = {rendered(rows.keys[row]): buckets_of(message) for row, message in rows.histograms.items()}
    page = Page(body, ACCEPTED)
    async with run_target(page) as port:
        jobs = f"[{{job_name: j, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]"
        config = f"global: {{scrape_interval: 1s}}\nscrape_configs: {jobs}"
        server = await asyncio.to_thread(start_prometheus, config, ["--enable-feature=native-histograms"])
        found: list[Any] = []
        async with asyncio.timeout(30):
            while len(found) < len(plain) + len(native):
                found = await asyncio.to_thread(query, server, '{__name__=~"milvus_.*"}')
                await asyncio.sleep(0.1)
    assert {named(one["metric"]): float(one["value"][1]) for one in found if "value" in one} == plain
    theirs = {named(one["metric"]): one["histogram"][1] for one in found if "histogram" in one}
    assert theirs.keys() == native.keys()
    for name, (count, total, buckets) in native.items():
        assert (float(theirs[name]["count"]), float(theirs[name]["sum"])) == (count, total)
        stored = sorted(
            (float(low), float(high), float(number)) for _, low, high, number in theirs[name]["buckets"]
        )
        assert [one[2] for one in stored] == [one[2] for one in buckets]
        for mine, other in zip(buckets, stored, strict=True):
            assert mine[:2] == pytest.approx(other[:2])


@pytest.mark.services
async def test_what_prometheus_says_of_itself_is_the_same_in_both_formats(
    start_prometheus: StartPrometheus,
) -> None:
    from http.client import HTTPConnection

    from collector.exposition import parse_strictly

    server = await asyncio.to_thread(start_prometheus, "scrape_configs: []")

    def page(accept: str) -> tuple[bytes, str]:
        connection = HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/metrics", headers={"Accept": accept})
        answer = connection.getresponse()
        body, kind = answer.read(), answer.getheader("Content-Type", "")
        connection.close()
        return body, kind

    def normal(key: bytes) -> str:
        """Its text format has whole bounds without `.0`."""
        name, labels = parse_key(key, OPENMETRICS)
        for bound in labels.keys() & {"le", "quantile"}:
            labels[bound] = render_bound(float(labels[bound]))
        return render_labels(make_labels({**labels, METRIC_NAME: name}))

    plain = "text/plain;version=0.0.4"
    for accept in (plain, ACCEPTED) * 2:  # each request makes series of its own
        body, kind = await asyncio.to_thread(page, accept)
    assert is_protobuf(kind)
    rows = ProtobufReader().read(body)
    text, kind = await asyncio.to_thread(page, plain)
    other = parse_strictly(text, kind)
    assert {normal(key) for key in rows.keys} == {normal(key) for key in other.keys}
    assert len(rows.keys) > 200
    assert rows.types == other.types
