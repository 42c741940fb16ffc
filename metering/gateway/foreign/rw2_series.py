"""Remote write 2.0 series read one by one: new ones, and those that hold more than a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collector.wire.errors import WireError
from collector.wire.model import Labels
from collector.wire.protobuf import BYTES, check_within, read_int64, read_span, read_varint
from metering.gateway.foreign.loose import Loose, read_double
from metering.gateway.foreign.pushed import SeriesNumbers
from metering.samples import Metadata

_REFS, _REF, _SAMPLE, _HISTOGRAM, _EXEMPLAR, _METADATA, _CREATED = 0x0A, 0x08, 0x12, 0x1A, 0x22, 0x2A, 0x30
_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
_SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}


class Span(NamedTuple):
    """A message in a body."""

    start: int
    end: int


def read_series(body: bytes, series: Span, texts: Sequence[str], numbers: SeriesNumbers, loose: Loose) -> int:
    """The number of a series; what it holds goes to `loose`. Raises BodyTooLarge, WireError."""
    refs: list[int] = []
    contents: list[tuple[int, Span]] = []
    created_ms, position, end = 0, series.start, series.end
    while position < end:
        tag, position = read_varint(body, position)
        if tag & 7 == BYTES:
            start, position = read_span(body, position, end)
            if tag == _REFS:
                _add_refs(body, start, position, refs, loose)
            elif tag in {_SAMPLE, _HISTOGRAM, _EXEMPLAR, _METADATA}:
                contents.append((tag, Span(start, position)))
                if not len(contents) & 0xFFF:
                    loose.check_samples(len(contents))
            else:
                loose.skip(tag, start, end)
        elif tag == _REF:
            ref, position = read_varint(body, position)
            refs.append(ref)
            if not len(refs) & 0xFFF:
                loose.check_labels_so_far(len(refs) // 2)
        elif tag == _CREATED:
            created_ms, position = read_int64(body, position)
        elif tag >> 3 > 6:
            position = loose.skip(tag, position, end)
        else:
            raise WireError.at(f"byte {position}", f"the tag {tag} in a series", "fields as specified")
        check_within(position, end)
    loose.check_labels(len(refs) // 2)
    labels = resolve(refs, texts)
    number = numbers.number(labels)
    for tag, span in contents:
        _read_content(body, tag, span, _Owner(number, labels, created_ms), texts, loose)
    return number


class _Owner(NamedTuple):
    number: int
    labels: Labels
    created_ms: int


def _read_content(body: bytes, tag: int, span: Span, owner: _Owner, texts: Sequence[str], loose: Loose) -> None:
    if tag == _SAMPLE:
        loose.add_sample(span.start, span.end, owner.number, owner.created_ms)
    elif tag == _HISTOGRAM:
        loose.add_histogram(span.start, span.end, owner.number, owner.created_ms)
    elif tag == _EXEMPLAR:
        _read_exemplar(body, span, owner.number, texts, loose)
    else:
        read_metadata(body, span, owner.labels, texts, loose)


def resolve(refs: Sequence[int], texts: Sequence[str]) -> Labels:
    """The labels that references name. Raises WireError."""
    if len(refs) % 2:
        raise WireError.at("labels_refs", f"{len(refs)} references", "pairs of a name and a value")
    try:
        named = iter([texts[ref] for ref in refs])
    except IndexError:
        raise WireError.at("labels_refs", max(refs), f"an index of the {len(texts)} symbols") from None
    return tuple(zip(named, named, strict=True))


def read_refs(refs: bytes) -> list[int]:
    """Packed references that are whole."""
    found, value, shift = [], 0, 0
    for byte in refs:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found


def _add_refs(body: bytes, position: int, end: int, refs: list[int], loose: Loose) -> None:
    # A reference takes 10 bytes at most: bounds the list before it is made.
    loose.check_labels_so_far((end - position) // 20)
    while position < end:
        ref, position = read_varint(body, position)
        refs.append(ref)
    check_within(position, end)


def _read_exemplar(body: bytes, span: Span, number: int, texts: Sequence[str], loose: Loose) -> None:
    refs: list[int] = []
    value, timestamp_ms = 0.0, 0
    position, end = span
    while position < end:
        tag, position = read_varint(body, position)
        if tag == _REFS:
            start, position = read_span(body, position, end)
            _add_refs(body, start, position, refs, loose)
        elif tag == _REF:
            ref, position = read_varint(body, position)
            refs.append(ref)
        elif tag == 0x11:
            value, position = read_double(body, position)
        elif tag == 0x18:
            timestamp_ms, position = read_int64(body, position)
        else:
            position = loose.skip(tag, position, end)
        check_within(position, end)
    loose.check_labels(len(refs) // 2)
    loose.add_exemplar(number, value, timestamp_ms, resolve(refs, texts))


def is_usual_metadata(content: bytes, symbols: int) -> bool:
    """Whether the content of a metadata field is whole, holds nothing that nobody reads, and names symbols.

    Of a series that is known nobody reads its metadata again, so what is not usual here is read field by field.
    """
    refs = {0x08: 0, 0x18: 0, 0x20: 0}
    position, end = 0, len(content)
    try:
        while position < end:
            tag, position = read_varint(content, position)
            if tag not in refs:
                return False
            refs[tag], position = read_varint(content, position)
    except (WireError, IndexError):
        return False
    return max(refs[0x18], refs[0x20]) < symbols


def read_metadata(body: bytes, span: Span, labels: Labels, texts: Sequence[str], loose: Loose) -> None:
    """Metadata: type = 1, help_ref = 3, unit_ref = 4. Raises WireError."""
    numbers = {1: 0, 3: 0, 4: 0}
    position, end = span
    while position < end:
        tag, position = read_varint(body, position)
        if tag in {0x08, 0x18, 0x20}:
            numbers[tag >> 3], position = read_varint(body, position)
        else:
            position = loose.skip(tag, position, end)
        check_within(position, end)
    if max(numbers[3], numbers[4]) >= len(texts):
        raise WireError.at("metadata", max(numbers[3], numbers[4]), f"an index of the {len(texts)} symbols")
    kind = _TYPES[numbers[1]] if numbers[1] < len(_TYPES) else _TYPES[0]
    name = dict(labels).get("__name__", "")
    for suffix in _SUFFIXES.get(kind, ()):
        name = name.removesuffix(suffix)
    if name and (kind != _TYPES[0] or numbers[3] or numbers[4]):
        loose.add_metadata(Metadata(name, kind, texts[numbers[3]], texts[numbers[4]]))
