"""Decode remote write 1.0: protobuf `prometheus.WriteRequest`, after decompression.

    WriteRequest  repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3
    TimeSeries    repeated Label labels = 1; Sample samples = 2; Exemplar exemplars = 3; Histogram histograms = 4
    Label         string name = 1; string value = 2

Source: prometheus/docs, specs/prw/remote_write_spec.md. The bytes of a series' labels repeat from push to push, so
a cache keyed by them spares reading them again.
"""

from __future__ import annotations

from collector.wire.columns import SampleColumns
from collector.wire.errors import WireError
from collector.wire.model import Decoded, DecodeLimits, LabelCache, Labels
from collector.wire.protobuf import (
    BYTES,
    check_fields,
    check_within,
    decode_whole,
    read_span,
    read_text,
    read_varint,
    skip_field,
)

_SERIES, _METADATA = 0x0A, 0x1A
_LABEL, _SAMPLE, _EXEMPLAR, _HISTOGRAM = 0x0A, 0x12, 0x1A, 0x22
_NAME, _VALUE = 0x0A, 0x12


def decode_write_request(body: bytes, limits: DecodeLimits, cache: LabelCache | None = None) -> Decoded:
    """The columns of a decompressed body. Raises BodyTooLarge, WireError. `cache` is the sender's own."""

    def decode() -> Decoded:
        columns = SampleColumns(limits)
        known = cache if cache is not None else LabelCache(0)
        position, end = 0, len(body)
        while position < end:
            tag, position = read_varint(body, position)
            if tag in {_SERIES, _METADATA}:
                start, position = read_span(body, position, end)
                if tag == _SERIES:
                    _decode_series(body, start, position, columns, known)
                else:
                    check_fields(body, start, position)
                    columns.decoded.metadata += 1
            elif tag >> 3 in {1, 3, 4, 5}:  # 4 and 5 are remote write 2.0's: the content type is wrong
                raise WireError.at(
                    f"byte {position}", f"the tag {tag}", "timeseries and metadata of remote write 1.0"
                )
            else:
                position = skip_field(body, tag, position, end)
        return columns.finish()

    return decode_whole(decode, len(body), limits.max_decompressed_bytes)


def _decode_series(body: bytes, start: int, end: int, columns: SampleColumns, cache: LabelCache) -> None:
    labels, position = _leading_labels(body, start, end, columns, cache)
    series = columns.add_series(labels)
    decoded = columns.decoded
    is_scattered = False
    while position < end:
        tag, position = read_varint(body, position)
        if tag & 7 != BYTES:
            if tag >> 3 <= 4:
                raise WireError.at(f"byte {position}", f"the tag {tag} in a series", "labels, samples as specified")
            position = skip_field(body, tag, position, end)
            continue
        inside, position = read_span(body, position, end)
        if tag == _SAMPLE:
            columns.add_sample(body, inside, position, series)
        elif tag == _LABEL:
            is_scattered = True
        elif tag == _EXEMPLAR:
            check_fields(body, inside, position)
            decoded.exemplars += 1
        elif tag == _HISTOGRAM:
            check_fields(body, inside, position)
            decoded.histograms += 1
    if is_scattered:
        columns.replace_series(series, _scattered_labels(body, start, end, columns))


def _leading_labels(
    body: bytes, start: int, end: int, columns: SampleColumns, cache: LabelCache
) -> tuple[Labels, int]:
    """The labels in front of the series, and the position after them."""
    position = start
    spans = []
    limit = columns.limits.max_labels_per_series
    while position < end and body[position] == _LABEL:
        length, inside = body[position + 1], position + 2
        if length < 0x80 and inside + length <= end:
            position = inside + length
        else:
            inside, position = read_span(body, position + 1, end)
        spans.append((inside, position))
        if len(spans) > limit:
            columns.check_labels(len(spans))
    block = body[start:position]
    labels = cache.get(block)
    if labels is None:
        labels = tuple([_label(body[inside:stop], cache) for inside, stop in spans])
        cache.add(block, labels)
    return labels, position


def _label(encoded: bytes, cache: LabelCache) -> tuple[str, str]:
    pair = cache.get_pair(encoded)
    if pair is None:
        pair = _decode_label(encoded, 0, len(encoded))
        cache.add_pair(encoded, pair)
    return pair


def _scattered_labels(body: bytes, position: int, end: int, columns: SampleColumns) -> Labels:
    labels = []
    while position < end:
        tag, position = read_varint(body, position)
        if tag == _LABEL:
            start, position = read_span(body, position, end)
            labels.append(_decode_label(body, start, position))
            columns.check_labels(len(labels))
        else:
            position = skip_field(body, tag, position, end)
    return tuple(labels)


def _decode_label(body: bytes, position: int, end: int) -> tuple[str, str]:
    # What every label looks like: a name and a value, both shorter than 128 bytes, and nothing else.
    if end - position >= 4 and body[position] == _NAME and body[position + 1] < 0x80:
        middle = position + 2 + body[position + 1]
        if middle + 2 <= end and body[middle] == _VALUE and middle + 2 + body[middle + 1] == end < middle + 130:
            return read_text(body, position + 2, middle), read_text(body, middle + 2, end)
    return _decode_label_slowly(body, position, end)


def _decode_label_slowly(body: bytes, position: int, end: int) -> tuple[str, str]:
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
