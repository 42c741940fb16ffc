"""Requests of remote write 2.0 that are already encoded: joined into one, or made into 1.0. The slow way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collector.remote_write.template import Symbols
from collector.wire.protobuf import read_span, read_varint, skip_field
from collector.wire.varint import length_delimited

_REFS, _SAMPLE, _HISTOGRAM, _EXEMPLAR = 0x0A, 0x12, 0x1A, 0x22
_WITH_START = 0x17  # bytes of a sample with a start timestamp, which 1.0 does not have


def join_requests(bodies: Sequence[bytes]) -> bytes:
    """One request of several, every text once."""
    if len(bodies) == 1:
        return bodies[0]
    symbols, series = Symbols(), []
    for body in bodies:
        texts, spans = _split(body)
        for start, end in spans:
            parts = []
            for tag, content in _fields(body, start, end):
                if tag == _REFS:
                    parts.append(_translated(content, texts, symbols))
                elif tag == _EXEMPLAR:
                    parts.append(length_delimited(b"\x22", _exemplar(content, texts, symbols)))
                else:
                    parts.append(length_delimited(bytes((tag,)), content))
            series.append(length_delimited(b"\x2a", b"".join(parts)))
    return bytes(symbols.encoded) + b"".join(series)


def as_version_1(body: bytes) -> bytes:
    """The same as a `prometheus.WriteRequest`; types and start timestamps have no place there."""
    texts, spans = _split(body)
    labels: dict[tuple[int, int], bytes] = {}
    return b"".join(length_delimited(b"\x0a", _series_1(body, start, end, texts, labels)) for start, end in spans)


def _series_1(body: bytes, start: int, end: int, texts: list[bytes], labels: dict[tuple[int, int], bytes]) -> bytes:
    parts: dict[int, list[bytes]] = {_REFS: [], _SAMPLE: [], _EXEMPLAR: [], _HISTOGRAM: []}  # in 1.0's order
    for tag, content in _fields(body, start, end):
        if tag == _REFS:
            parts[tag].append(_labels_1(content, texts, labels))
        elif tag == _SAMPLE:
            value_and_time = content[:16] if len(content) == _WITH_START else content
            parts[tag].append(length_delimited(b"\x12", value_and_time))
        elif tag == _EXEMPLAR:
            parts[tag].append(length_delimited(b"\x1a", _exemplar_1(content, texts, labels)))
        elif tag == _HISTOGRAM:
            parts[tag].append(length_delimited(b"\x22", content))
    return b"".join(part for some in parts.values() for part in some)


def _labels_1(content: bytes, texts: list[bytes], labels: dict[tuple[int, int], bytes]) -> bytes:
    parts = []
    for pair in _reference_pairs(content):
        known = labels.get(pair)
        if known is None:
            name, value = length_delimited(b"\x0a", texts[pair[0]]), length_delimited(b"\x12", texts[pair[1]])
            known = labels[pair] = length_delimited(b"\x0a", name + value)
        parts.append(known)
    return b"".join(parts)


def _exemplar_1(content: bytes, texts: list[bytes], labels: dict[tuple[int, int], bytes]) -> bytes:
    at, rest = _after_references(content)
    return _labels_1(at, texts, labels) + rest


def _exemplar(content: bytes, texts: list[bytes], symbols: Symbols) -> bytes:
    references, rest = _after_references(content)
    return _translated(references, texts, symbols) + rest


def _after_references(content: bytes) -> tuple[bytes, bytes]:
    """The references of an exemplar, which we write first, and what follows them."""
    if content[:1] != b"\x0a":
        return b"", content
    start, end = read_span(content, 1, len(content))
    return content[start:end], content[end:]


def _translated(content: bytes, texts: list[bytes], symbols: Symbols) -> bytes:
    return symbols.label_references([(texts[name], texts[value]) for name, value in _reference_pairs(content)])


def _reference_pairs(content: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    while position < len(content):
        name, position = read_varint(content, position)
        value, position = read_varint(content, position)
        yield name, value


def _split(body: bytes) -> tuple[list[bytes], list[tuple[int, int]]]:
    texts, spans = [], []
    position, end = 0, len(body)
    while position < end:
        tag, position = read_varint(body, position)
        span = read_span(body, position, end)
        position = span[1]
        if tag == 0x22:
            texts.append(body[span[0] : span[1]])
        else:
            spans.append(span)
    return texts, spans


def _fields(body: bytes, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Every field of a series: all are length-delimited in what we write."""
    while position < end:
        tag, position = read_varint(body, position)
        if tag & 7 != 2:
            position = skip_field(body, tag, position, end)
            continue
        start, position = read_span(body, position, end)
        yield tag, body[start:position]
