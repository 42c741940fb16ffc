"""Remote write 2.0 (specification 2.0-rc.4): bytes joined from parts prepared once per series.

What is told of a family goes with each of its series; the texts are symbols, so each is there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct, pack

from collector.exposition.columns import MetricType
from collector.labels import Labels
from collector.wire.frames.model import FamilyMetadata
from collector.wire.series import WireSeries
from collector.wire.varint import length_delimited, sample, varint

_TYPE_NUMBER = {
    MetricType.COUNTER: 1,
    MetricType.GAUGE: 2,
    MetricType.HISTOGRAM: 3,
    MetricType.GAUGEHISTOGRAM: 4,
    MetricType.SUMMARY: 5,
    MetricType.INFO: 6,
    MetricType.STATESET: 7,
}
_SYMBOL = b"\x22"  # Request.symbols = 4
_SERIES = b"\x2a"  # Request.timeseries = 5
_USUAL_SAMPLE_BYTES = 18  # a sample field whose timestamp lies between 2004 and 2109
_DOUBLE = Struct("<d")


class SymbolTable:
    """Texts by reference; symbols[0] is the empty text, as the specification demands."""

    def __init__(self) -> None:
        self._references: dict[str, int] = {"": 0}
        self._pending: list[bytes] = [length_delimited(_SYMBOL, b"")]
        self._encoded = b""

    def __len__(self) -> int:
        return len(self._references)

    def reference(self, text: str) -> bytes:
        """The varint of the text's reference; a new text joins the table."""
        known = self._references.get(text)
        if known is None:
            known = self._references[text] = len(self._references)
            self._pending.append(length_delimited(_SYMBOL, text.encode()))
        return varint(known)

    def encoded(self) -> bytes:
        """All symbols as fields of a request."""
        if self._pending:
            self._encoded += b"".join(self._pending)
            self._pending = []
        return self._encoded


class PreparedSeries:
    """All bytes of a TimeSeries that do not change from scrape to scrape."""

    __slots__ = ("body", "head")

    def __init__(
        self, table: SymbolTable, labels: Labels, kind: MetricType, told: FamilyMetadata | None = None
    ) -> None:
        references = b"".join(table.reference(name) + table.reference(value) for name, value in labels)
        self.body = length_delimited(b"\x0a", references) + _metadata(table, _TYPE_NUMBER.get(kind, 0), told)
        self.head = _SERIES + varint(len(self.body) + _USUAL_SAMPLE_BYTES) + self.body


def encode_scrape(
    table: SymbolTable, series: Sequence[PreparedSeries], values: Sequence[float], timestamps_ms: Sequence[int]
) -> bytes:
    """The bytes of an `io.prometheus.write.v2.Request` of one sample a series, not compressed."""
    packed = pack(f"<{len(values)}d", *values)
    parts = [table.encoded()]
    offset, last, suffix, usual = 0, None, b"", False
    for one, timestamp_ms in zip(series, timestamps_ms, strict=True):
        if timestamp_ms != last:
            last = timestamp_ms
            suffix = b"\x10" + varint(timestamp_ms)
            usual = len(suffix) == 7
        bits = packed[offset : offset + 8]
        offset += 8
        if usual:
            parts += (one.head, b"\x12\x10\x09", bits, suffix)
        else:
            field = length_delimited(b"\x12", b"\x09" + bits + suffix)
            parts.append(length_delimited(_SERIES, one.body + field))
    return b"".join(parts)


def encode_rw2(series: Iterable[WireSeries]) -> bytes:
    """The bytes of a Request of any series, symbols deduplicated, not compressed."""
    table = SymbolTable()
    encoded = [
        length_delimited(
            _SERIES,
            PreparedSeries(table, one.labels, one.type, one.told).body
            + b"".join(sample(at, value, one.start_ms) for at, value in one.samples)
            + b"".join(length_delimited(b"\x1a", message) for message in one.histograms)
            + b"".join(_exemplar(table, *exemplar) for exemplar in one.exemplars),
        )
        for one in series
    ]
    return table.encoded() + b"".join(encoded)


def _metadata(table: SymbolTable, number: int, told: FamilyMetadata | None) -> bytes:
    content = b"\x08" + varint(number) if number else b""
    if told is not None and told.help:
        content += b"\x18" + table.reference(told.help)
    if told is not None and told.unit:
        content += b"\x20" + table.reference(told.unit)
    return length_delimited(b"\x2a", content) if content else b""


def _exemplar(table: SymbolTable, value: float, at_ms: int, labels: Labels) -> bytes:
    references = b"".join(table.reference(name) + table.reference(text) for name, text in labels)
    content = length_delimited(b"\x0a", references) + b"\x11" + _DOUBLE.pack(value) + b"\x18" + varint(at_ms)
    return length_delimited(b"\x22", content)
