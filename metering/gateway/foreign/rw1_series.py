"""The parts of a remote write 1.0 series, field by field."""

from __future__ import annotations

from collector.wire.errors import WireError
from collector.wire.model import Labels
from collector.wire.protobuf import BYTES, check_within, read_int64, read_span, read_text, read_varint, skip_field
from metering.gateway.foreign.loose import Loose, read_double
from metering.gateway.foreign.pushed import SeriesNumbers
from metering.samples import Metadata

_LABEL, _SAMPLE, _EXEMPLAR, _HISTOGRAM = 0x0A, 0x12, 0x1A, 0x22
_NAME, _VALUE = 0x0A, 0x12
# MetricMetadata.MetricType of remote write 1.0
_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")

Spans = list[tuple[int, int]]


def leading_labels(body: bytes, position: int, end: int, loose: Loose) -> tuple[Spans, int]:
    """Where the labels in front of a series are, and the position after them."""
    spans: Spans = []
    while position < end and body[position] == _LABEL:
        length, inside = body[position + 1], position + 2
        if length < 0x80 and inside + length <= end:
            position = inside + length
        else:
            inside, position = read_span(body, position + 1, end)
        spans.append((inside, position))
        if not len(spans) & 0xFF:
            loose.check_labels_so_far(len(spans))
    loose.check_labels(len(spans))
    return spans, position


def has_labels(body: bytes, position: int, end: int, loose: Loose) -> bool:
    """Whether there are labels behind the samples."""
    found = False
    while position < end:
        tag, position = read_varint(body, position)
        found = found or tag == _LABEL
        position = skip_field(body, tag, position, end)
    return found


def scattered_labels(body: bytes, position: int, end: int, loose: Loose) -> Labels:
    """The labels, wherever in the series they are."""
    labels = []
    while position < end:
        tag, position = read_varint(body, position)
        if tag == _LABEL:
            loose.check_labels(1)
            start, position = read_span(body, position, end)
            labels.append(read_label(body, start, position))
        else:
            position = skip_field(body, tag, position, end)
    return tuple(labels)


def read_contents(body: bytes, position: int, end: int, number: int, loose: Loose) -> None:
    """Everything in a series but its labels."""
    while position < end:
        tag, position = read_varint(body, position)
        if tag & 7 != BYTES:
            if tag >> 3 <= 4:
                raise WireError.at(f"byte {position}", f"the tag {tag} in a series", "labels, samples as specified")
            position = loose.skip(tag, position, end)
            continue
        start, position = read_span(body, position, end)
        if tag == _SAMPLE:
            loose.add_sample(start, position, number)
        elif tag == _EXEMPLAR:
            _read_exemplar(body, start, position, number, loose)
        elif tag == _HISTOGRAM:
            loose.add_histogram(start, position, number)
        elif tag != _LABEL:
            loose.skip(tag, start, end)


def number_of_labels(body: bytes, spans: Spans, numbers: SeriesNumbers) -> int:
    """The number that these labels get, or a negative one: refused. Raises WireError."""
    parts = _plain_parts(body, spans)
    number = numbers.number_of(parts) if parts else None
    if number is None:
        number = numbers.number(tuple([read_label(body, start, end) for start, end in spans]))
    return number


def _plain_parts(body: bytes, spans: Spans) -> list[bytes] | None:
    """The names and values in turn of labels that look like every label; None if one does not."""
    parts: list[bytes] = []
    for start, end in spans:
        if end - start < 4 or body[start] != _NAME or body[start + 1] >= 0x80:
            return None
        middle = start + 2 + body[start + 1]
        if (
            middle + 2 > end
            or body[middle] != _VALUE
            or middle + 2 + body[middle + 1] != end
            or end >= middle + 130
        ):
            return None
        parts += (body[start + 2 : middle], body[middle + 2 : end])
    return parts


def read_label(body: bytes, position: int, end: int) -> tuple[str, str]:
    """A label. Raises WireError."""
    # What every label looks like: a name and a value, both shorter than 128 bytes, and nothing else.
    if end - position >= 4 and body[position] == _NAME and body[position + 1] < 0x80:
        middle = position + 2 + body[position + 1]
        if middle + 2 <= end and body[middle] == _VALUE and middle + 2 + body[middle + 1] == end < middle + 130:
            return read_text(body, position + 2, middle), read_text(body, middle + 2, end)
    name = value = ""
    while position < end:
        tag, position = read_varint(body, position)
        if tag in {_NAME, _VALUE}:
            start, position = read_span(body, position, end)
            text = read_text(body, start, position)
            name, value = (text, value) if tag == _NAME else (name, text)
        elif tag >> 3 in {1, 2}:
            raise WireError.at(f"byte {position}", f"the tag {tag} in a label", "name and value")
        else:
            position = skip_field(body, tag, position, end)
    check_within(position, end)
    return name, value


def _read_exemplar(body: bytes, position: int, end: int, number: int, loose: Loose) -> None:
    labels, value, timestamp_ms = [], 0.0, 0
    while position < end:
        tag, position = read_varint(body, position)
        if tag == 0x0A:
            loose.check_labels(1)
            start, position = read_span(body, position, end)
            labels.append(read_label(body, start, position))
        elif tag == 0x11:
            value, position = read_double(body, position)
        elif tag == 0x18:
            timestamp_ms, position = read_int64(body, position)
        else:
            position = loose.skip(tag, position, end)
        check_within(position, end)
    loose.add_exemplar(number, value, timestamp_ms, tuple(labels))


def read_metadata(body: bytes, position: int, end: int, loose: Loose) -> None:
    """MetricMetadata: type = 1, metric_family_name = 2, help = 4, unit = 5."""
    kind, texts = 0, {2: "", 4: "", 5: ""}
    while position < end:
        tag, position = read_varint(body, position)
        if tag == 0x08:
            kind, position = read_varint(body, position)
        elif tag & 7 == BYTES and tag >> 3 in texts:
            start, position = read_span(body, position, end)
            texts[tag >> 3] = read_text(body, start, position)
        else:
            position = loose.skip(tag, position, end)
        check_within(position, end)
    name = _TYPES[kind] if kind < len(_TYPES) else _TYPES[0]
    loose.add_metadata(Metadata(texts[2], name, texts[4], texts[5]))
