"""Protobuf exposition: `io.prometheus.client.MetricFamily` messages, each behind its length.

    MetricFamily  name = 1; help = 2; type = 3; metric = 4; unit = 5
    Metric        label = 1; gauge = 2; counter = 3; summary = 4; untyped = 5; timestamp_ms = 6; histogram = 7
    Counter       value = 1; exemplar = 2; created_timestamp = 3
    Summary       sample_count = 1; sample_sum = 2; quantile = 3 {quantile = 1; value = 2}; created_timestamp = 4
    Histogram     in `histogram`

Source: prometheus/client_model, io/prometheus/client/metrics.proto; what becomes of it: prometheus/prometheus,
model/textparse/protobufparse.go. A series gets the key that it would have in the text format, `name{...}`, rendered
once and remembered by its bytes, so what follows sees one kind of keys whatever the target speaks.
"""

from __future__ import annotations

from struct import unpack_from

from collector.exposition.columns import Declaration, MetricType, Rows
from collector.exposition.errors import ExpositionError
from collector.exposition.histogram import Buckets, ClientHistogram, read_exemplar, read_milliseconds
from collector.exposition.numbers import render_bound
from collector.exposition.protobuf_keys import SeriesKeys
from collector.wire.errors import WireError
from collector.wire.protobuf import check_within, read_int64, read_span, read_text, read_varint, skip_field

CONTENT_TYPE = "application/vnd.google.protobuf"
MESSAGE = "io.prometheus.client.MetricFamily"
ACCEPTED = f"{CONTENT_TYPE};proto={MESSAGE};encoding=delimited"

_TYPES = {
    0: MetricType.COUNTER, 1: MetricType.GAUGE, 2: MetricType.SUMMARY, 3: MetricType.UNKNOWN,
    4: MetricType.HISTOGRAM, 5: MetricType.GAUGEHISTOGRAM,
}  # fmt: skip
_LABEL, _GAUGE, _COUNTER, _SUMMARY, _UNTYPED, _TIMESTAMP, _HISTOGRAM = 0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x30, 0x3A
_VALUE = 0x09
_VALUE_BYTES = 11
_VALUE_HEADS = {bytes((tag, 9, _VALUE)) for tag in (_GAUGE, _COUNTER, _UNTYPED)}  # before the eight of the number
_LIMIT = 1_000_000


def is_protobuf(content_type: str) -> bool:
    """Whether a Content-Type says what this parser reads."""
    media, _, rest = content_type.partition(";")
    parameters = {part.strip().replace('"', "").lower() for part in rest.split(";")}
    wanted = {f"proto={MESSAGE.lower()}", "encoding=delimited"}
    return media.strip().lower() == CONTENT_TYPE and wanted <= parameters


class ProtobufReader:
    """Reads the bodies of one target. `native`: take native histograms; `classic`: their buckets too if there."""

    def __init__(self, *, native: bool = True, classic: bool = False) -> None:
        self._native = native
        self._classic = classic
        self._keys = SeriesKeys()
        self._plain: dict[tuple[str, bytes], bytes] = {}

    def read(self, body: bytes) -> Rows:
        """The rows of a body. Raises ExpositionError; then nothing of the body counts."""
        rows = Rows()
        self._keys.begin()
        if len(self._plain) > _LIMIT:
            self._plain.clear()
        position = 0
        try:
            while position < len(body):
                start, position = read_span(body, position, len(body))
                self._read_family(body, start, position, rows)
        except WireError as error:
            raise _malformed(str(error)) from error
        except IndexError:
            raise _malformed(f"an end after {len(body)} bytes in the middle of a field") from None
        return rows

    def _read_family(self, body: bytes, position: int, end: int, rows: Rows) -> None:
        name, kind, unit, text = "", MetricType.COUNTER, "", ""
        metrics: list[tuple[int, int]] = []
        while position < end:
            tag, position = read_varint(body, position)
            if tag == 0x22:
                metrics.append(span := read_span(body, position, end))
                position = span[1]
            elif tag in (0x0A, 0x12, 0x2A):
                start, position = read_span(body, position, end)
                said = read_text(body, start, position)
                name, text, unit = {0x0A: (said, text, unit), 0x12: (name, said, unit)}.get(tag, (name, text, said))
            elif tag == 0x18:
                number, position = read_varint(body, position)
                kind = _TYPES.get(number, MetricType.UNKNOWN)
            else:
                position = skip_field(body, tag, position, end)
        check_within(position, end)
        if not name:
            raise WireError.at(f"byte {position}", "a metric family without a name", "a name")
        rows.declare(Declaration(name, kind, unit, text))
        for start, stop in metrics:
            self._read_metric(body, start, stop, name, kind, rows)

    def _read_metric(self, body: bytes, position: int, end: int, name: str, kind: MetricType, rows: Rows) -> None:
        prefix = (name, body[position : end - _VALUE_BYTES])
        key = self._plain.get(prefix)
        if key is not None and body[end - _VALUE_BYTES : end - 8] in _VALUE_HEADS:
            rows.add(key, unpack_from("<d", body, end - 8)[0])
            return
        row, start = len(rows.keys), position
        self._read_any_metric(body, position, end, name, kind, rows)
        ends_in_value = end - start > _VALUE_BYTES and body[end - _VALUE_BYTES : end - 8] in _VALUE_HEADS
        if ends_in_value and len(rows.keys) == row + 1:
            self._remember(prefix, rows.keys[row])

    def _remember(self, prefix: tuple[str, bytes], key: bytes) -> None:
        """Labels, then a value and nothing else: the next time only the value is read."""
        position, whole = 0, prefix[1]
        while position < len(whole):
            if whole[position] != _LABEL:
                return
            position = read_span(whole, position + 1, len(whole))[1]
        self._plain[prefix] = key

    def _read_any_metric(
        self, body: bytes, position: int, end: int, name: str, kind: MetricType, rows: Rows
    ) -> None:
        labels: list[bytes] = []
        timestamp_ms: int | None = None
        found, value = 0, (0, 0)
        while position < end:
            tag, position = read_varint(body, position)
            if tag == _LABEL:
                start, position = read_span(body, position, end)
                labels.append(body[start:position])
            elif tag in (_GAUGE, _COUNTER, _UNTYPED, _SUMMARY, _HISTOGRAM):
                found, value = tag, read_span(body, position, end)
                position = value[1]
            elif tag == _TIMESTAMP:
                read, position = read_int64(body, position)
                timestamp_ms = read or None  # as there: 0 is none
            else:
                position = skip_field(body, tag, position, end)
        check_within(position, end)
        if found == _HISTOGRAM:
            self._add_histogram(body, value, name, labels, kind, timestamp_ms, rows)
        elif found == _SUMMARY:
            self._add_summary(body, value, name, labels, timestamp_ms, rows)
        elif found:
            self._add_value(body, value, name, labels, timestamp_ms, rows)

    def _add_value(
        self, body: bytes, span: tuple[int, int], name: str, labels: list[bytes], at: int | None, rows: Rows
    ) -> None:
        """Of a counter, a gauge or an untyped metric."""
        position, end = span
        number = 0.0
        while position < end:
            tag, position = read_varint(body, position)
            if tag == _VALUE:
                number, position = _double(body, position, end)
            elif tag == 0x12:
                start, position = read_span(body, position, end)
                rows.exemplars[len(rows.keys)] = [read_exemplar(body, start, position)]
            elif tag == 0x1A:
                start, position = read_span(body, position, end)
                rows.created[len(rows.keys)] = read_milliseconds(body, start, position)
            else:
                position = skip_field(body, tag, position, end)
        check_within(position, end)
        rows.add(self._keys.plain(name, labels), number, at)

    def _add_summary(
        self, body: bytes, span: tuple[int, int], name: str, labels: list[bytes], at: int | None, rows: Rows
    ) -> None:
        position, end = span
        count, total, created = 0, 0.0, None
        quantiles: list[tuple[float, float]] = []
        while position < end:
            tag, position = read_varint(body, position)
            if tag == 0x08:
                count, position = read_varint(body, position)
            elif tag == 0x11:
                total, position = _double(body, position, end)
            elif tag == 0x1A:
                start, position = read_span(body, position, end)
                quantiles.append(_pair_of_doubles(body, start, position))
            elif tag == 0x22:
                start, position = read_span(body, position, end)
                created = read_milliseconds(body, start, position)
            else:
                position = skip_field(body, tag, position, end)
        check_within(position, end)
        first = len(rows.keys)
        rows.add(self._keys.plain(f"{name}_count", labels), float(count), at)
        rows.add(self._keys.plain(f"{name}_sum", labels), total, at)
        for quantile, value in quantiles:
            rows.add(self._keys.bounded(name, labels, "quantile", render_bound(quantile)), value, at)
        if created is not None:
            rows.created |= dict.fromkeys((first, first + 1), created)

    def _add_histogram(
        self, body: bytes, span: tuple[int, int], name: str, labels: list[bytes], kind: MetricType, at: int | None,
        rows: Rows,
    ) -> None:  # fmt: skip
        histogram = ClientHistogram.read(body, *span)
        is_native = histogram.is_native and self._native
        if is_native:
            row = len(rows.keys)
            rows.histograms[row] = histogram.message(is_gauge=kind is MetricType.GAUGEHISTOGRAM)
            exemplars = histogram.exemplars or [one for one in histogram.buckets.exemplars if one.timestamp_ms]
            if exemplars:
                rows.exemplars[row] = exemplars
            rows.add(self._keys.plain(name, labels), 0.0, at)
        if not is_native or self._classic:
            self._add_buckets(histogram, histogram.buckets, name, labels, at, rows)

    def _add_buckets(
        self,
        histogram: ClientHistogram,
        buckets: Buckets,
        name: str,
        labels: list[bytes],
        at: int | None,
        rows: Rows,
    ) -> None:
        first = len(rows.keys)
        rows.add(self._keys.plain(f"{name}_count", labels), histogram.count, at)
        rows.add(self._keys.plain(f"{name}_sum", labels), histogram.sum, at)
        for place, (bound, number) in enumerate(buckets.closed(histogram.count)):
            exemplar = buckets.by_place.get(place)
            if exemplar is not None:
                rows.exemplars[len(rows.keys)] = [exemplar]
            rows.add(self._keys.bounded(f"{name}_bucket", labels, "le", render_bound(bound)), number, at)
        if histogram.created_ms is not None:
            rows.created |= dict.fromkeys(range(first, len(rows.keys)), histogram.created_ms)


def _double(body: bytes, position: int, end: int) -> tuple[float, int]:
    check_within(position + 8, end)
    return float(unpack_from("<d", body, position)[0]), position + 8


def _pair_of_doubles(body: bytes, position: int, end: int) -> tuple[float, float]:
    found = {_VALUE: 0.0, 0x11: 0.0}
    while position < end:
        tag, position = read_varint(body, position)
        if tag in found:
            found[tag], position = _double(body, position, end)
        else:
            position = skip_field(body, tag, position, end)
    return found[_VALUE], found[0x11]


def _malformed(reason: str) -> ExpositionError:
    error = ExpositionError.single("exposition", "protobuf", reason, f"{MESSAGE} messages, each behind its length")
    assert isinstance(error, ExpositionError)
    return error
