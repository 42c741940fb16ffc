"""A batch as log records, each below the log's limit.

A batch that is too large is halved by rows until every part fits. Where records are told apart by their part of a
push, the cut looks at uncompressed sizes alone, and at nothing that this process remembers, so that the same push
is cut in the same way whenever and wherever it comes again. A foreign push has no parts: it makes as few records as
hold it. How the labels of a part are written may differ in both: in pages of the tenant's table, which are
compressed once and known to the reader, or in a page of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kernel.log import Record, RecordTooLarge
from metering.gateway.foreign.pushed import PushedHistogram
from metering.gateway.table import PAGE_SERIES, Layout, SeriesTable
from metering.record import BatchHeader, encode_samples
from metering.samples import ExemplarRow, HistogramRow, LabelPage, Metadata, SampleColumns, make_page

PART_STRIDE = 4096  # parts that one part of a push may be cut into: record part = push part * stride + k
_ROW_BYTES, _START_BYTES = 20, 8  # int32 + int64 + float64; int64
_SERIES_BYTES = 8
_EXTRA_BYTES, _PAGE_BYTES = 32, 24
_OVERHEAD_BYTES = 4096  # of the columns' head, the pages' heads, the key and the headers
_SPARSE, _SPARSE_TOGETHER = 2, 1.4  # a page, all pages: of so many times the labels that are used at most


@dataclass(frozen=True, slots=True)
class Batch:
    """What was admitted of a push: rows by the number of their series in `table`."""

    table: SeriesTable
    numbers: npt.NDArray[np.int32]
    timestamps_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    starts_ms: npt.NDArray[np.int64] | None = None
    histograms: Sequence[PushedHistogram] = ()
    exemplars: Sequence[ExemplarRow] = ()  # `index` is the series' number
    metadata: Sequence[Metadata] = ()
    distinct: npt.NDArray[np.int64] | None = None  # what `series` gives, where it is known

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> int:
        """Samples, histograms and exemplars."""
        return len(self.values) + len(self.histograms) + len(self.exemplars)

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.metadata)

    def series(self) -> npt.NDArray[np.int64]:
        """The distinct numbers, in their order."""
        if self.distinct is not None:
            return self.distinct
        used = np.zeros(len(self.table), np.bool_)
        used[self.numbers] = True
        if self.histograms or self.exemplars:
            used[[row.number for row in self.histograms]] = True
            used[[row.index for row in self.exemplars]] = True
        return np.flatnonzero(used)

    def slice(self, start: int, stop: int) -> Batch:
        """The rows `[start, stop)`, counted through samples, histograms and exemplars; metadata go with row 0."""
        samples, both = len(self.values), len(self.values) + len(self.histograms)
        return replace(
            self,
            numbers=self.numbers[start:stop],
            timestamps_ms=self.timestamps_ms[start:stop],
            values=self.values[start:stop],
            starts_ms=self.starts_ms[start:stop] if self.starts_ms is not None else None,
            histograms=self.histograms[max(0, start - samples) : max(0, stop - samples)],
            exemplars=self.exemplars[max(0, start - both) : max(0, stop - both)],
            metadata=self.metadata if start == 0 else (),
            distinct=None,
        )


def make_records(header: BatchHeader, batch: Batch, max_record_bytes: int) -> list[Record]:
    """The records, in the order of their rows; an empty batch is one record, which carries its header.

    Only the last one says what the push is complete through: before it is stored, the push is not. Raises
    RecordTooLarge when a single row does not fit.
    """
    if header.sequence is None:
        return list(_largest(header, batch, max_record_bytes))
    # Compression never adds a tenth, so what fits by this measure fits.
    parts = list(_split(batch, int(max_record_bytes * 0.9) - _OVERHEAD_BYTES))
    if len(parts) > PART_STRIDE:
        raise RecordTooLarge(f"a push of {batch.rows} samples makes over {PART_STRIDE} records: push less at once")
    last = len(parts) - 1
    return [
        _encode(_header_of(header, number, number == last), part, max_record_bytes)
        for number, part in enumerate(parts)
    ]


def _largest(header: BatchHeader, batch: Batch, max_record_bytes: int) -> Iterator[Record]:
    budget = int(max_record_bytes * 0.9) - _OVERHEAD_BYTES
    if _rows_size(batch) <= budget:
        columns = _columns(batch, are_pages_shared=True)
        if _rows_size(batch) + sum(_PAGE_BYTES + len(page.blob) for page in columns.pages) <= budget:
            yield encode_samples(header, columns)
            return
    if batch.rows <= 1:
        yield from (_encode(header, part, max_record_bytes) for part in _split(batch, budget))
        return
    middle = batch.rows // 2
    yield from _largest(header, batch.slice(0, middle), max_record_bytes)
    yield from _largest(header, batch.slice(middle, batch.rows), max_record_bytes)


def _header_of(header: BatchHeader, number: int, is_last: bool) -> BatchHeader:
    sequence = header.sequence
    if sequence is not None:
        sequence = replace(sequence, part=sequence.part * PART_STRIDE + number)
    return replace(header, sequence=sequence, complete_through_ms=header.complete_through_ms if is_last else None)


def _encode(header: BatchHeader, batch: Batch, max_record_bytes: int) -> Record:
    record = encode_samples(header, _columns(batch, are_pages_shared=True))
    size = len(record.key) + len(record.value) + sum(len(name) + len(text) for name, text in record.headers.items())
    if size <= max_record_bytes:
        return record
    return encode_samples(header, _columns(batch, are_pages_shared=False))


def _split(batch: Batch, budget: int) -> Iterator[Batch]:
    if _size(batch) <= budget:
        yield batch
        return
    if batch.rows <= 1:
        raise RecordTooLarge(f"one sample with its labels is {_size(batch)} bytes, over the log's record limit")
    middle = batch.rows // 2
    yield from _split(batch.slice(0, middle), budget)
    yield from _split(batch.slice(middle, batch.rows), budget)


def _size(batch: Batch) -> int:
    series = batch.series()
    return _rows_size(batch) + int(batch.table.lengths[series].sum()) + len(series) * _SERIES_BYTES


def _rows_size(batch: Batch) -> int:
    row_bytes = _ROW_BYTES if batch.starts_ms is None else _ROW_BYTES + _START_BYTES
    return (
        len(batch) * row_bytes
        + sum(_EXTRA_BYTES + len(row.message) for row in batch.histograms)
        + sum(_EXTRA_BYTES + len(row.labels) for row in batch.exemplars)
        + sum(_EXTRA_BYTES + 6 * (len(one.family) + len(one.help) + len(one.unit)) for one in batch.metadata)
    )


def _columns(batch: Batch, *, are_pages_shared: bool) -> SampleColumns:
    is_plain = are_pages_shared and not (batch.histograms or batch.exemplars)
    known = batch.table.layouts.find(batch.numbers) if is_plain else None
    if known is not None:
        return SampleColumns(
            known.pages,
            known.index,
            batch.timestamps_ms,
            batch.values,
            batch.starts_ms,
            metadata=tuple(batch.metadata),
        )
    series = batch.series()
    pages, index_of = _pages(batch.table, series, are_shared=are_pages_shared)
    index = index_of[batch.numbers]
    if is_plain:
        batch.table.layouts.add(batch.numbers, Layout(pages, index, series))
    return SampleColumns(
        pages,
        index,
        batch.timestamps_ms,
        batch.values,
        batch.starts_ms,
        tuple(HistogramRow(int(index_of[row.number]), row.message) for row in batch.histograms),
        tuple(replace(row, index=int(index_of[row.index])) for row in batch.exemplars),
        tuple(batch.metadata),
    )


def _pages(
    table: SeriesTable, series: npt.NDArray[np.int64], *, are_shared: bool
) -> tuple[tuple[LabelPage, ...], npt.NDArray[np.int32]]:
    """Pages that hold these series, and by series number the index in them."""
    index_of = np.full(len(table), -1, np.int32)
    pages: list[LabelPage] = []
    count, alone = 0, series
    if are_shared and len(series):
        dense = _dense_pages(table, series)
        for number in dense.tolist():
            page = table.page(number)
            start = number * PAGE_SERIES
            index_of[start : start + page.count] = np.arange(count, count + page.count, dtype=np.int32)
            count += page.count
            pages.append(page)
        alone = series[index_of[series] < 0]
    if len(alone):
        index_of[alone] = np.arange(count, count + len(alone), dtype=np.int32)
        pages.append(make_page([table.canonical[number] for number in alone.tolist()]))
    return tuple(pages), index_of


def _dense_pages(table: SeriesTable, series: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pages of which enough is used: of all together, or else of each."""
    used = np.bincount(series // PAGE_SERIES, table.lengths[series])
    pages = np.flatnonzero(used)
    whole = table.page_bytes[pages]
    if whole.sum() <= _SPARSE_TOGETHER * used.sum():
        return pages
    return pages[whole <= _SPARSE * used[pages]]
