"""The fields of OTLP's messages by number, and a walk over them that keeps where each value stands.

Source: open-telemetry/opentelemetry-proto, metrics/v1/metrics.proto. Every number of a data point that changes from
export to export has a fixed width there (but for exponential buckets), so a place is good for the next body too.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.protobuf import BYTES, FIXED32, FIXED64, VARINT, check_within, read_span, read_varint


class Field(NamedTuple):
    """One field: where its content is; for a varint `start` is its value."""

    number: int
    kind: int
    start: int
    end: int


class Message:
    """A body, and how many fields may still be read of it."""

    def __init__(self, body: bytes, max_fields: int) -> None:
        self.body = body
        self._left = max_fields

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message `[start, end)`. Raises BodyTooLarge, WireError."""
        body, position = self.body, start
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise BodyTooLarge.at(
                    f"byte {position}", "too many fields", "fewer in one body: export less at once"
                )
            tag, position = read_varint(body, position)
            number, kind = tag >> 3, tag & 7
            if kind == BYTES:
                inside, position = read_span(body, position, end)
                yield Field(number, kind, inside, position)
            elif kind == FIXED64:
                position += 8
                check_within(position, end)
                yield Field(number, kind, position - 8, position)
            elif kind == VARINT:
                value, position = read_varint(body, position)
                check_within(position, end)
                yield Field(number, kind, value, position)
            elif kind == FIXED32 and number:
                position += 4
                check_within(position, end)
            else:
                raise WireError.at(f"byte {position}", f"the field tag {tag}", "a field of wire type 0, 1, 2 or 5")

    def text(self, field: Field) -> str:
        """The text of a field. Raises WireError."""
        try:
            return self.body[field.start : field.end].decode()
        except UnicodeDecodeError:
            raise WireError.at(f"byte {field.start}", "bytes that are no UTF-8", "UTF-8 text") from None

    def attribute(self, field: Field) -> tuple[str, str]:
        """The name and the value, as text, of a KeyValue. Raises WireError."""
        try:
            read: Any = KeyValue.FromString(self.body[field.start : field.end])
            return read.key, text_of(read.value)
        except (DecodeError, RecursionError) as error:
            raise WireError.at(f"byte {field.start}", f"an attribute: {error}", "a KeyValue") from None


def text_of(value: AnyValue) -> str:
    """A value as a label has it (pcommon.Value.AsString)."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind in {"array_value", "kvlist_value"}:
        return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value":
        return number_text(value.double_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    return str(value.int_value) if kind == "int_value" else ""


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return {each.key: _plain(each.value) for each in value.kvlist_value.values}
    if kind in {"bool_value", "int_value", "double_value"}:
        found: object = getattr(value, kind)
        return found
    return None if kind is None else text_of(value)


def number_text(value: float) -> str:
    """The shortest text of a number without an exponent, as Go's strconv with 'f' has it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
