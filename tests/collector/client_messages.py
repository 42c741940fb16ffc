"""`io.prometheus.client` and remote write's histogram by the protobuf runtime: independent of what is tested."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _Field.TYPE_STRING, "double": _Field.TYPE_DOUBLE, "uint64": _Field.TYPE_UINT64,
    "int64": _Field.TYPE_INT64, "int32": _Field.TYPE_INT32, "sint32": _Field.TYPE_SINT32,
    "sint64": _Field.TYPE_SINT64, "uint32": _Field.TYPE_UINT32,
}  # fmt: skip
Fields = list[tuple[int, str, str]]

_CLIENT: dict[str, Fields] = {
    "Timestamp": [(1, "seconds", "int64"), (2, "nanos", "int32")],
    "LabelPair": [(1, "name", "string"), (2, "value", "string")],
    "Exemplar": [(1, "label", "LabelPair*"), (2, "value", "double"), (3, "timestamp", "Timestamp")],
    "Gauge": [(1, "value", "double")],
    "Untyped": [(1, "value", "double")],
    "Counter": [(1, "value", "double"), (2, "exemplar", "Exemplar"), (3, "created_timestamp", "Timestamp")],
    "Quantile": [(1, "quantile", "double"), (2, "value", "double")],
    "Summary": [
        (1, "sample_count", "uint64"), (2, "sample_sum", "double"), (3, "quantile", "Quantile*"),
        (4, "created_timestamp", "Timestamp"),
    ],
    "Bucket": [
        (1, "cumulative_count", "uint64"), (4, "cumulative_count_float", "double"), (2, "upper_bound", "double"),
        (3, "exemplar", "Exemplar"),
    ],
    "BucketSpan": [(1, "offset", "sint32"), (2, "length", "uint32")],
    "Histogram": [
        (1, "sample_count", "uint64"), (4, "sample_count_float", "double"), (2, "sample_sum", "double"),
        (3, "bucket", "Bucket*"), (5, "schema", "sint32"), (6, "zero_threshold", "double"),
        (7, "zero_count", "uint64"), (8, "zero_count_float", "double"), (9, "negative_span", "BucketSpan*"),
        (10, "negative_delta", "sint64*"), (11, "negative_count", "double*"), (12, "positive_span", "BucketSpan*"),
        (13, "positive_delta", "sint64*"), (14, "positive_count", "double*"),
        (15, "created_timestamp", "Timestamp"), (16, "exemplars", "Exemplar*"),
    ],
    "Metric": [
        (1, "label", "LabelPair*"), (2, "gauge", "Gauge"), (3, "counter", "Counter"), (4, "summary", "Summary"),
        (5, "untyped", "Untyped"), (7, "histogram", "Histogram"), (6, "timestamp_ms", "int64"),
    ],
    "MetricFamily": [
        (1, "name", "string"), (2, "help", "string"), (3, "type", "int32"), (4, "metric", "Metric*"),
        (5, "unit", "string"),
    ],
}  # fmt: skip
_WRITE: dict[str, Fields] = {
    "BucketSpan": [(1, "offset", "sint32"), (2, "length", "uint32")],
    "Histogram": [
        (1, "count_int", "uint64"), (2, "count_float", "double"), (3, "sum", "double"), (4, "schema", "sint32"),
        (5, "zero_threshold", "double"), (6, "zero_count_int", "uint64"), (7, "zero_count_float", "double"),
        (8, "negative_spans", "BucketSpan*"), (9, "negative_deltas", "sint64*"), (10, "negative_counts", "double*"),
        (11, "positive_spans", "BucketSpan*"), (12, "positive_deltas", "sint64*"),
        (13, "positive_counts", "double*"), (14, "reset_hint", "int32"), (15, "timestamp", "int64"),
        (16, "custom_values", "double*"), (17, "start_timestamp", "int64"),
    ],
}  # fmt: skip


def classes(package: str, messages: dict[str, Fields], syntax: str) -> dict[str, Any]:
    """Message classes by name. A trailing * in a type is `repeated`."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax=syntax)
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


CLIENT = classes("client_test", _CLIENT, "proto2")  # repeated numbers one by one, as clients in Go send them
PACKED = classes("client_packed_test", _CLIENT, "proto3")
WRITE = classes("write_histogram_test", _WRITE, "proto3")
COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)


def delimited(*families: Any) -> bytes:
    """A body: each message behind its length."""
    body = b""
    for family in families:
        encoded = family.SerializeToString()
        length = len(encoded)
        while length > 0x7F:
            body += bytes((length & 0x7F | 0x80,))
            length >>= 7
        body += bytes((length,)) + encoded
    return body
