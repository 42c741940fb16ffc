"""Remote write by the protobuf runtime: an encoder that shares no line with the decoder under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from collector.wire.model import Labels

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {"string": _Field.TYPE_STRING, "double": _Field.TYPE_DOUBLE, "int64": _Field.TYPE_INT64}
_KINDS["uint32"], _KINDS["uint64"] = _Field.TYPE_UINT32, _Field.TYPE_UINT64
_KINDS["sint32"], _KINDS["sint64"] = _Field.TYPE_SINT32, _Field.TYPE_SINT64
Fields = Sequence[tuple[int, str, str]]  # number, name, type; a trailing * is `repeated`

_HISTOGRAM: Fields = [
    (1, "count_int", "uint64"),
    (2, "count_float", "double"),
    (3, "sum", "double"),
    (4, "schema", "sint32"),
    (5, "zero_threshold", "double"),
    (6, "zero_count_int", "uint64"),
    (7, "zero_count_float", "double"),
    (8, "negative_spans", "BucketSpan*"),
    (9, "negative_deltas", "sint64*"),
    (10, "negative_counts", "double*"),
    (11, "positive_spans", "BucketSpan*"),
    (12, "positive_deltas", "sint64*"),
    (13, "positive_counts", "double*"),
    (14, "reset_hint", "uint32"),
    (15, "timestamp", "int64"),
    (16, "custom_values", "double*"),
    (17, "start_timestamp", "int64"),
]
_SPAN: Fields = [(1, "offset", "sint32"), (2, "length", "uint32")]
_RW1: dict[str, Fields] = {
    "BucketSpan": _SPAN,
    "Label": [(1, "name", "string"), (2, "value", "string")],
    "Sample": [(1, "value", "double"), (2, "timestamp", "int64")],
    "Exemplar": [(1, "labels", "Label*"), (2, "value", "double"), (3, "timestamp", "int64")],
    "Histogram": _HISTOGRAM,
    "TimeSeries": [
        (1, "labels", "Label*"),
        (2, "samples", "Sample*"),
        (3, "exemplars", "Exemplar*"),
        (4, "histograms", "Histogram*"),
    ],
    "Metadata": [
        (1, "type", "uint32"),
        (2, "metric_family_name", "string"),
        (4, "help", "string"),
        (5, "unit", "string"),
    ],
    "WriteRequest": [(1, "timeseries", "TimeSeries*"), (3, "metadata", "Metadata*")],
}
_RW2: dict[str, Fields] = {
    "BucketSpan": _SPAN,
    "Sample": [(1, "value", "double"), (2, "timestamp", "int64"), (3, "start_timestamp", "int64")],
    "Exemplar": [(1, "labels_refs", "uint32*"), (2, "value", "double"), (3, "timestamp", "int64")],
    "Histogram": _HISTOGRAM,
    "Metadata": [(1, "type", "uint32"), (3, "help_ref", "uint32"), (4, "unit_ref", "uint32")],
    "TimeSeries": [
        (1, "labels_refs", "uint32*"),
        (2, "samples", "Sample*"),
        (3, "histograms", "Histogram*"),
        (4, "exemplars", "Exemplar*"),
        (5, "metadata", "Metadata"),
        (6, "created_timestamp", "int64"),
    ],
    "Request": [(4, "symbols", "string*"), (5, "timeseries", "TimeSeries*")],
}


def _classes(package: str, messages: dict[str, Fields]) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
            added = message.field.add(number=number, name=field, label=label)
            plain = kind.rstrip("*")
            if plain in _KINDS:
                added.type = _KINDS[plain]
            else:
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".{package}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages
    }


RW1 = _classes("prometheus_test", _RW1)
RW2 = _classes("write_v2_test", _RW2)

Rows = Sequence[tuple[Labels, Sequence[tuple[int, float]]]]


def encode_rw1(rows: Rows) -> bytes:
    """A WriteRequest with a series for each row."""
    request = RW1["WriteRequest"]()
    for labels, samples in rows:
        series = request.timeseries.add()
        for name, value in labels:
            series.labels.add(name=name, value=value)
        for timestamp, number in samples:
            series.samples.add(timestamp=timestamp, value=number)
    encoded: bytes = request.SerializeToString()
    return encoded


def encode_rw2(rows: Rows) -> bytes:
    """A Request with a series for each row."""
    request = RW2["Request"](symbols=[""])
    known = {"": 0}
    for labels, samples in rows:
        series = request.timeseries.add()
        for text in (text for pair in labels for text in pair):
            if text not in known:
                known[text] = len(known)
                request.symbols.append(text)
            series.labels_refs.append(known[text])
        for timestamp, number in samples:
            series.samples.add(timestamp=timestamp, value=number)
    encoded: bytes = request.SerializeToString()
    return encoded
