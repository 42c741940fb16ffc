"""A batch as log records, each below the log's limit.

A batch that is too large is halved by rows until every part fits. The cut looks at uncompressed sizes alone, so
that the same push is cut in the same way whenever it comes again, whatever the compression library makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kernel.log import Record, RecordTooLarge
from metering.record import PART_STRIDE, BatchHeader, SampleBatch, encode_record

_ROW_BYTES = 20  # int32 + int64 + float64
_SERIES_BYTES = 8
_OVERHEAD_BYTES = 4096  # of the Arrow stream, the key and the headers


def make_records(header: BatchHeader, batch: SampleBatch, max_record_bytes: int) -> list[Record]:
    """The records, in the order of their rows; an empty batch is one record, which carries its header.

    Only the last one says what the push is complete through: before it is stored, the push is not. Raises
    RecordTooLarge when a single row does not fit.
    """
    # Compression never adds a tenth, so what fits by this measure fits.
    parts = list(_split(_compact(batch), int(max_record_bytes * 0.9) - _OVERHEAD_BYTES))
    if len(parts) > PART_STRIDE:
        raise RecordTooLarge(f"a push of {len(batch)} samples makes over {PART_STRIDE} records: push less at once")
    last = len(parts) - 1
    return [encode_record(_header_of(header, number, number == last), part) for number, part in enumerate(parts)]


def _header_of(header: BatchHeader, number: int, is_last: bool) -> BatchHeader:
    sequence = header.sequence
    if sequence is not None:
        sequence = replace(sequence, part=sequence.part * PART_STRIDE + number)
    return replace(header, sequence=sequence, complete_through_ms=header.complete_through_ms if is_last else None)


def _split(batch: SampleBatch, budget: int) -> Iterator[SampleBatch]:
    if _size(batch) <= budget:
        yield batch
        return
    if len(batch) == 1:
        raise RecordTooLarge(f"one sample of {len(batch.series[0])} label bytes is over the log's record limit")
    middle = len(batch) // 2
    yield from _split(_compact(batch.slice(0, middle)), budget)
    yield from _split(_compact(batch.slice(middle, len(batch))), budget)


def _size(batch: SampleBatch) -> int:
    return len(batch) * _ROW_BYTES + sum(map(len, batch.series)) + len(batch.series) * _SERIES_BYTES


def _compact(batch: SampleBatch) -> SampleBatch:
    """The same rows with only the series that they use."""
    used, index = np.unique(batch.series_index, return_inverse=True)
    if len(used) == len(batch.series):
        return batch
    series = tuple(batch.series[slot] for slot in used)
    return replace(batch, series=series, series_index=index.astype(np.int32))
