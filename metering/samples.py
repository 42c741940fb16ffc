"""The value of a sample record, format 2: pages of labels, named by content, and columns that point into them.

    head      <4sHHIII   "BYS2", flags, pages, rows, bytes of the columns, bytes of the extras; little-endian
    pages     <16sII     for each: name, label sets, bytes of its blob; then the blobs one after the other
    columns   zstd       differences of series index (int32) and timestamp (int64), values as eight byte planes,
                         then, with flag 1, start timestamps (int64; 0: none)
    extras    zstd       native histograms, exemplars, metadata; absent when there are none

A page is zstd over its label sets' lengths (uint32 each) and bytes; its name is the blake2b-16 of that. A writer
that sends the same series again sends the same page again, so a reader keeps what it found under the name and never
opens the blob. Nothing outside a record is needed to read it: one may begin at any offset of the log.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import zstandard

from kernel.errors import DeadLetter

MAGIC = b"BYS2"
_HEAD, _PAGE = struct.Struct("<4sHHIII"), struct.Struct("<16sII")
_WITH_STARTS = 1
_MAX_BYTES = 256 * 1024 * 1024  # of one section decompressed; a writer stays far below
_EXTRAS = struct.Struct("<III")
_EXEMPLAR = np.dtype([("index", "<u4"), ("bytes", "<u4"), ("value", "<f8"), ("timestamp_ms", "<i8")])
# By the number of remote write's MetricType, and of the first byte of an entry of our frames.
METRIC_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class LabelPage:
    """Label sets (see `metering.record.canonical_labels`), compressed, under the hash of their content."""

    name: bytes
    count: int
    blob: bytes

    def labels(self) -> list[bytes]:
        """The label sets. Raises DeadLetter when the blob is not what the name says."""
        content = _decompress(self.blob)
        if blake2b(content, digest_size=16).digest() != self.name:
            raise DeadLetter("a page of labels whose content is not what its name says")
        text = 4 * self.count
        lengths = np.frombuffer(content, "<u4", self.count).tolist() if len(content) >= text else []
        if text + sum(lengths) != len(content):
            raise DeadLetter("a page of labels whose lengths do not add up")
        return [content[start:end] for start, end in pairwise(accumulate(lengths, initial=text))]


@dataclass(frozen=True, slots=True)
class HistogramRow:
    """A native histogram of the series `index`: an `io.prometheus.write.v2.Histogram`, its timestamp inside."""

    index: int
    message: bytes


@dataclass(frozen=True, slots=True)
class ExemplarRow:
    """An exemplar of the series `index`; `labels` are canonical and may be empty."""

    index: int
    value: float
    timestamp_ms: int
    labels: bytes


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a sender says of a metric family; `type` is one of METRIC_TYPES."""

    family: str
    type: str
    help: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Samples by column. An index counts through the label sets of all pages, one page after the other.

    `starts_ms`: when the counter behind each sample began, 0 where the sender did not say; None when it never did.
    """

    pages: tuple[LabelPage, ...]
    series_index: npt.NDArray[np.int32]
    timestamps_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    starts_ms: npt.NDArray[np.int64] | None = None
    histograms: tuple[HistogramRow, ...] = ()
    exemplars: tuple[ExemplarRow, ...] = ()
    metadata: tuple[Metadata, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def series_count(self) -> int:
        return sum(page.count for page in self.pages)


def make_page(labels: Sequence[bytes]) -> LabelPage:
    """A page of these canonical label sets."""
    content = np.fromiter(map(len, labels), "<u4", len(labels)).tobytes() + b"".join(labels)
    return LabelPage(blake2b(content, digest_size=16).digest(), len(labels), _compress(content))


def encode_columns(columns: SampleColumns) -> bytes:
    """The value of a record."""
    rows = len(columns)
    parts = [
        _differences(columns.series_index.astype("<i4", copy=False)),
        _differences(columns.timestamps_ms.astype("<i8", copy=False)),
        np.ascontiguousarray(columns.values, "<f8").view(np.uint8).reshape(rows, 8).T.tobytes(),
    ]
    if columns.starts_ms is not None:
        parts.append(columns.starts_ms.astype("<i8", copy=False).tobytes())
    content, extras = _compress(b"".join(parts)), _encode_extras(columns)
    flags = _WITH_STARTS if columns.starts_ms is not None else 0
    return b"".join(
        [
            _HEAD.pack(MAGIC, flags, len(columns.pages), rows, len(content), len(extras)),
            *(_PAGE.pack(page.name, page.count, len(page.blob)) for page in columns.pages),
            *(page.blob for page in columns.pages),
            content,
            extras,
        ]
    )


def decode_columns(value: bytes) -> SampleColumns:
    """The inverse of `encode_columns`; the pages stay closed. Raises DeadLetter."""
    try:
        return _decode(value)
    except (struct.error, ValueError, TypeError) as error:
        raise DeadLetter(f"a record that is no batch of samples: {error}") from error


def _decode(value: bytes) -> SampleColumns:
    magic, flags, page_count, rows, column_bytes, extra_bytes = _HEAD.unpack_from(value)
    if magic != MAGIC or flags & ~_WITH_STARTS:
        raise DeadLetter(f"a record of another format: {value[:8]!r}")
    heads = [_PAGE.unpack_from(value, _HEAD.size + number * _PAGE.size) for number in range(page_count)]
    bounds = [*accumulate((size for _, _, size in heads), initial=_HEAD.size + page_count * _PAGE.size)]
    end = bounds[-1] + column_bytes
    if end + extra_bytes != len(value):
        raise DeadLetter(f"a record of {len(value)} bytes that says it has {end + extra_bytes}")
    pages = tuple(
        LabelPage(name, count, value[start:stop])
        for (name, count, _), (start, stop) in zip(heads, pairwise(bounds), strict=True)
    )
    index, times, values, starts = _decode_rows(value[bounds[-1] : end], rows, flags)
    decoded = SampleColumns(pages, index, times, values, starts, *_decode_extras(value[end:]))
    _check_indices(decoded)
    return decoded


def _decode_rows(
    packed: bytes, rows: int, flags: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    content = _decompress(packed)
    if len(content) != rows * (28 if flags & _WITH_STARTS else 20):
        raise DeadLetter(f"columns of {len(content)} bytes for {rows} rows")
    index = np.cumsum(np.frombuffer(content, "<i4", rows), dtype=np.int32)
    times = np.cumsum(np.frombuffer(content, "<i8", rows, 4 * rows), dtype=np.int64)
    planes = np.frombuffer(content, np.uint8, 8 * rows, 12 * rows).reshape(8, rows)
    values = np.ascontiguousarray(planes.T).view("<f8").reshape(rows).astype(np.float64, copy=False)
    starts = np.frombuffer(content, "<i8", rows, 20 * rows) if flags & _WITH_STARTS else None
    return index, times, values, starts


def _check_indices(columns: SampleColumns) -> None:
    count = columns.series_count
    index = columns.series_index
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise DeadLetter("a record whose samples name series that it does not carry")
    further = [row.index for row in columns.histograms] + [row.index for row in columns.exemplars]
    if further and max(further) >= count:
        raise DeadLetter("a record whose histograms or exemplars name series that it does not carry")


def _differences(column: npt.NDArray[np.integer]) -> bytes:
    differences = column.copy()
    differences[1:] -= column[:-1]  # wraps, and wraps back when it is summed
    return differences.tobytes()


def _encode_extras(columns: SampleColumns) -> bytes:
    histograms, exemplars, metadata = columns.histograms, columns.exemplars, columns.metadata
    if not (histograms or exemplars or metadata):
        return b""
    heads = np.zeros(len(exemplars), _EXEMPLAR)
    for position, row in enumerate(exemplars):
        heads[position] = (row.index, len(row.labels), row.value, row.timestamp_ms)
    told = json.dumps([[each.family, each.type, each.help, each.unit] for each in metadata]).encode()
    return _compress(
        b"".join(
            [
                _EXTRAS.pack(len(histograms), len(exemplars), len(told)),
                *(struct.pack("<II", row.index, len(row.message)) for row in histograms),
                *(row.message for row in histograms),
                heads.tobytes(),
                *(row.labels for row in exemplars),
                told,
            ]
        )
    )


def _decode_extras(
    packed: bytes,
) -> tuple[tuple[HistogramRow, ...], tuple[ExemplarRow, ...], tuple[Metadata, ...]]:
    if not packed:
        return (), (), ()
    content = _decompress(packed)
    histogram_count, exemplar_count, told_bytes = _EXTRAS.unpack_from(content)
    position = _EXTRAS.size
    heads = np.frombuffer(content, "<u4", 2 * histogram_count, position).reshape(-1, 2)
    messages, position = _cut(content, position + heads.nbytes, heads[:, 1].tolist())
    exemplar_heads = np.frombuffer(content, _EXEMPLAR, exemplar_count, position)
    texts, position = _cut(content, position + exemplar_heads.nbytes, exemplar_heads["bytes"].tolist())
    if position + told_bytes != len(content):
        raise DeadLetter("extras whose lengths do not add up")
    return (
        tuple(map(HistogramRow, heads[:, 0].tolist(), messages)),
        tuple(
            ExemplarRow(index, value, timestamp_ms, labels)
            for (index, _, value, timestamp_ms), labels in zip(exemplar_heads.tolist(), texts, strict=True)
        ),
        tuple(Metadata(*map(str, told)) for told in json.loads(content[position:])),
    )


def _cut(content: bytes, start: int, lengths: Iterable[int]) -> tuple[list[bytes], int]:
    bounds = list(accumulate(lengths, initial=start))
    return [content[begin:end] for begin, end in pairwise(bounds)], bounds[-1]


def _compress(content: bytes) -> bytes:
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    packed: bytes = compressor.compress(content)
    return packed


def _decompress(packed: bytes) -> bytes:
    """Raises DeadLetter. The frame says its size, so that it can be refused before it is taken."""
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= _MAX_BYTES:
            raise DeadLetter(f"a section of {size} bytes; allowed: {_MAX_BYTES}")
        content: bytes = decompressor.decompress(packed)
    except zstandard.ZstdError as error:
        raise DeadLetter(f"a section that does not decompress: {error}") from error
    return content
