"""Decode remote write 2.0: protobuf `io.prometheus.write.v2.Request`, after decompression.

    Request     repeated string symbols = 4; repeated TimeSeries timeseries = 5
    TimeSeries  repeated uint32 labels_refs = 1; Sample samples = 2; Histogram histograms = 3;
                Exemplar exemplars = 4; Metadata metadata = 5;
                int64 created_timestamp = 6 (older senders; now Sample.start_timestamp = 3)

Source: prometheus/docs, specs/prw/remote_write_spec_2_0.md (2.0-rc.4). Symbols may stand behind the series that use
them, as protobuf orders no fields, so they are read first.
"""

from __future__ import annotations

from collector.wire.columns import SampleColumns
from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.model import Decoded, DecodeLimits, Labels
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

_SYMBOL, _SERIES = 0x22, 0x2A
_REFS, _REF, _SAMPLE, _HISTOGRAM, _EXEMPLAR, _METADATA, _CREATED = 0x0A, 0x08, 0x12, 0x1A, 0x22, 0x2A, 0x30
_COUNTED = frozenset({_HISTOGRAM, _EXEMPLAR, _METADATA})


def decode_request(body: bytes, limits: DecodeLimits) -> Decoded:
    """The columns of a decompressed body. Raises BodyTooLarge, WireError."""

    def decode() -> Decoded:
        symbols, spans = _split(body, limits)
        if spans and (not symbols or symbols[0]):
            raise WireError.at("symbols[0]", repr(symbols[0]) if symbols else "nothing", "the empty string")
        columns = SampleColumns(limits)
        for start, end in spans:
            _decode_series(body, start, end, symbols, columns)
        return columns.finish()

    return decode_whole(decode, len(body), limits.max_decompressed_bytes)


def _split(body: bytes, limits: DecodeLimits) -> tuple[list[str], list[tuple[int, int]]]:
    symbols: list[str] = []
    spans: list[tuple[int, int]] = []
    position, end = 0, len(body)
    while position < end:
        tag, position = read_varint(body, position)
        if tag == _SYMBOL:
            start, position = read_span(body, position, end)
            symbols.append(read_text(body, start, position))
        elif tag == _SERIES:
            span = read_span(body, position, end)
            spans.append(span)
            position = span[1]
        elif tag >> 3 in {1, 2, 3, 4, 5}:  # 1 to 3 are remote write 1.0's: the content type is wrong
            raise WireError.at(f"byte {position}", f"the tag {tag}", "symbols and timeseries of remote write 2.0")
        else:
            position = skip_field(body, tag, position, end)
        if len(symbols) > limits.max_symbols or len(spans) > limits.max_series:
            allowed = f"at most {limits.max_symbols} symbols and {limits.max_series} series in one body"
            raise BodyTooLarge.at("request", f"{len(symbols)} symbols, {len(spans)} series", allowed)
    return symbols, spans


def _decode_series(body: bytes, position: int, end: int, symbols: list[str], columns: SampleColumns) -> None:
    decoded = columns.decoded
    series = len(decoded.series)  # the index that it is about to get
    refs: list[int] = []
    while position < end:
        tag = body[position]
        tag, position = (tag, position + 1) if tag < 0x80 else read_varint(body, position)
        if tag & 7 == BYTES:
            length, start = body[position], position + 1
            position = start + length
            if length >= 0x80 or position > end:
                start, position = read_span(body, start - 1, end)
            if tag == _SAMPLE:
                columns.add_sample(body, start, position, series)
            elif tag == _REFS:
                # A reference takes 10 bytes at most: bounds the list before it is made.
                columns.check_labels((position - start) // 20)
                refs += _read_refs(body, start, position)
                columns.check_labels(len(refs) // 2)
            elif tag in _COUNTED:
                check_fields(body, start, position)
                _count(tag, decoded)
        elif tag == _REF:
            ref, position = read_varint(body, position)
            refs.append(ref)
            columns.check_labels(len(refs) // 2)
        elif tag == _CREATED or tag >> 3 > 6:
            position = skip_field(body, tag, position, end)
        else:
            raise WireError.at(f"byte {position}", f"the tag {tag} in a series", "fields as specified")
    columns.add_series(_resolve(refs, symbols))


def _count(tag: int, decoded: Decoded) -> None:
    decoded.histograms += tag == _HISTOGRAM
    decoded.exemplars += tag == _EXEMPLAR
    decoded.metadata += tag == _METADATA


def _read_refs(body: bytes, position: int, end: int) -> list[int]:
    packed = body[position:end]
    if packed.isascii():  # every reference is one byte
        return list(packed)
    refs = []
    low = -1  # the first of two bytes, or none
    for byte in packed:
        if low < 0:
            if byte < 0x80:
                refs.append(byte)
            else:
                low = byte & 0x7F
        elif byte < 0x80:
            refs.append(low | byte << 7)
            low = -1
        else:
            return _read_long_refs(body, position, end)
    if low >= 0:
        raise WireError.at(f"byte {end}", "a reference that runs over its field", f"an end at byte {end}")
    return refs


def _read_long_refs(body: bytes, position: int, end: int) -> list[int]:
    refs = []
    while position < end:
        ref, position = read_varint(body, position)
        refs.append(ref)
    check_within(position, end)
    return refs


def _resolve(refs: list[int], symbols: list[str]) -> Labels:
    if len(refs) % 2:
        raise WireError.at("labels_refs", f"{len(refs)} references", "pairs of a name and a value")
    try:
        texts = iter([symbols[ref] for ref in refs])
    except IndexError:
        raise WireError.at("labels_refs", max(refs), f"an index of the {len(symbols)} symbols") from None
    return tuple(zip(texts, texts, strict=True))
