"""What the encoders write is what three readers see: ours, and protobuf's own runtime."""

from __future__ import annotations

import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.exposition import MetricType
from collector.labels import Labels, make_labels
from collector.scrape.series import STALE
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.encode_rw2 import PreparedSeries, SymbolTable, encode_rw2, encode_scrape
from collector.wire.rw1 import decode_write_request
from collector.wire.rw2 import decode_request
from collector.wire.series import WireSeries, series_of
from tests.collector.world import LIMITS

_FIELD = descriptor_pb2.FieldDescriptorProto
_REPEATED, _ONE = _FIELD.LABEL_REPEATED, _FIELD.LABEL_OPTIONAL


def _file(name: str, messages: dict[str, list[tuple[str, int, int, Any]]]) -> Any:
    """A protobuf file of the public message layout: field name, number, label, type (or message name)."""
    file = descriptor_pb2.FileDescriptorProto(name=name, package=name, syntax="proto3")
    for message, fields in messages.items():
        described = file.message_type.add(name=message)
        for field, number, label, kind in fields:
            added = described.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{name}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_SAMPLE = [("value", 1, _ONE, _FIELD.TYPE_DOUBLE), ("timestamp", 2, _ONE, _FIELD.TYPE_INT64)]
_V1 = {
    "Label": [("name", 1, _ONE, _FIELD.TYPE_STRING), ("value", 2, _ONE, _FIELD.TYPE_STRING)],
    "Sample": _SAMPLE,
    "TimeSeries": [("labels", 1, _REPEATED, "Label"), ("samples", 2, _REPEATED, "Sample")],
    "WriteRequest": [("timeseries", 1, _REPEATED, "TimeSeries")],
}
_V2 = {
    "Sample": _SAMPLE,
    "Metadata": [("type", 1, _ONE, _FIELD.TYPE_INT32), ("help_ref", 3, _ONE, _FIELD.TYPE_UINT32)],
    "TimeSeries": [
        ("labels_refs", 1, _REPEATED, _FIELD.TYPE_UINT32),
        ("samples", 2, _REPEATED, "Sample"),
        ("metadata", 5, _ONE, "Metadata"),
    ],
    "Request": [("symbols", 4, _REPEATED, _FIELD.TYPE_STRING), ("timeseries", 5, _REPEATED, "TimeSeries")],
}


def message_class(name: str, messages: dict[str, Any], message: str) -> Any:
    pool = _file(name, messages)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{name}.{message}"))


WriteRequest = message_class("v1", _V1, "WriteRequest")
Request = message_class("v2", _V2, "Request")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
SERIES = st.lists(
    st.builds(
        lambda labels, samples, kind: WireSeries(make_labels({"__name__": "m", **labels}), tuple(samples), kind),
        st.dictionaries(TEXTS, TEXTS, max_size=3),
        st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats()), min_size=1, max_size=3),
        st.sampled_from(MetricType),
    ),
    max_size=5,
)
Bits = list[tuple[Labels, list[tuple[int, bytes]]]]


def exactly(series: list[WireSeries]) -> Bits:
    return [(one.labels, [(at, struct.pack("<d", value)) for at, value in one.samples]) for one in series]


@settings(max_examples=100, deadline=None)
@given(SERIES)
def test_version_1_is_read_back_by_our_decoder_and_by_protobuf(series: list[WireSeries]) -> None:
    body = encode_rw1(series)
    assert exactly(series_of(decode_write_request(body, LIMITS))) == exactly(series)
    parsed = WriteRequest.FromString(body)
    seen: Bits = [
        (
            tuple((label.name, label.value) for label in one.labels),
            [(sample.timestamp, struct.pack("<d", sample.value)) for sample in one.samples],
        )
        for one in parsed.timeseries
    ]
    assert seen == exactly(series)


@settings(max_examples=100, deadline=None)
@given(SERIES)
def test_version_2_is_read_back_by_our_decoder_and_by_protobuf(series: list[WireSeries]) -> None:
    body = encode_rw2(series)
    assert exactly(series_of(decode_request(body, LIMITS))) == exactly(series)
    parsed = Request.FromString(body)
    symbols = list(parsed.symbols)
    assert not series or symbols[0] == ""
    assert len(set(symbols)) == len(symbols)
    seen: Bits = []
    for one in parsed.timeseries:
        texts = [symbols[reference] for reference in one.labels_refs]
        labels = tuple(zip(texts[::2], texts[1::2], strict=True))
        assert list(labels) == sorted(labels)
        seen.append((labels, [(sample.timestamp, struct.pack("<d", sample.value)) for sample in one.samples]))
    assert seen == exactly(series)
    kinds = {"unknown": 0, "counter": 1, "gauge": 2, "histogram": 3, "gaugehistogram": 4, "summary": 5}
    kinds |= {"info": 6, "stateset": 7}
    assert [one.metadata.type for one in parsed.timeseries] == [kinds[one.type.value] for one in series]
    assert not any(one.metadata.help_ref for one in parsed.timeseries)


def test_a_scrape_keeps_its_table_from_one_to_the_next_and_stale_markers_keep_their_bits() -> None:
    table = SymbolTable()
    first = PreparedSeries(table, make_labels({"__name__": "a", "x": "1"}), MetricType.GAUGE)
    second = PreparedSeries(table, make_labels({"__name__": "b", "x": "1"}), MetricType.UNKNOWN)
    encode_scrape(table, [first], [1.0], [1_790_000_000_000])
    body = encode_scrape(table, [first, second, first], [2.0, STALE, 0.0], [1_790_000_000_000, 5, -1])
    decoded = series_of(decode_request(body, LIMITS))
    assert [(dict(one.labels)["__name__"], one.samples[0][0]) for one in decoded] == [
        ("a", 1_790_000_000_000),
        ("b", 5),
        ("a", -1),
    ]
    assert struct.pack("<d", decoded[1].samples[0][1]) == struct.pack("<Q", 0x7FF0000000000002)
    assert len(Request.FromString(body).symbols) == 6
