"""The value of a record into rows by slot, whatever its format. What repeats is looked up once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, Tenant
from kernel.log import StoredRecord
from kernel.window import DAY_MS
from metering.frames import FrameRows, SourceReaders
from metering.lake.beside_rows import NOTHING, Beside, ExemplarRows, HistogramRows, StartRows, keep_dated
from metering.lake.histogram_head import parse_head
from metering.lake.rows import Integers, Rows
from metering.lake.series import SeriesIndex
from metering.record import BatchHeader, RecordFormat, decode_batch, decode_header
from metering.samples import (
    MAGIC,
    METRIC_TYPES,
    ExemplarRow,
    LabelPage,
    Metadata,
    SampleColumns,
    decode_columns,
)

LAST_MS = 253_402_300_800_000  # 10000-01-01T00:00Z: the first time that has no date
_NO_SLOTS: Integers = np.empty(0, np.int64)
_CACHED_SLOTS = 4_000_000  # of all pages of labels together; eight bytes each


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one record holds."""

    rows: Sequence[Rows]
    beside: Beside = NOTHING


class SampleDecoder:
    """Decodes sample records. A page of labels is opened when its name is met first."""

    def __init__(self, series: SeriesIndex, days_per_record: int) -> None:
        self._series = series
        self._days_per_record = days_per_record
        self._pages: OrderedDict[tuple[Tenant, CollectorId, bytes], Integers] = OrderedDict()
        self._cached = 0
        self._last: dict[tuple[Tenant, CollectorId, tuple[bytes, ...]], tuple[npt.NDArray[np.int32], Integers]] = {}

    def decode(self, value: bytes, header: BatchHeader, *, is_foreign: bool) -> Decoded:
        """Raises DeadLetter."""
        if value[: len(MAGIC)] != MAGIC:
            return self._decode_old(value, header, is_foreign=is_foreign)
        columns = decode_columns(value)
        check_times(columns.timestamps_ms, self._days_per_record)
        slots = self._page_slots(columns.pages, header)
        rows = self._rows(columns, slots, header, is_foreign=is_foreign)
        return Decoded([rows], _beside(columns, slots, rows.slots, self._days_per_record))

    def _rows(self, columns: SampleColumns, slots: Integers, header: BatchHeader, *, is_foreign: bool) -> Rows:
        names = header.tenant, header.collector, tuple(page.name for page in columns.pages)
        last = self._last.get(names)
        if last is None or not np.array_equal(last[0], columns.series_index):
            if len(self._last) > len(self._pages):
                self._last.clear()
            last = self._last[names] = columns.series_index, slots[columns.series_index]
        chosen = last[1]
        return Rows(chosen, columns.timestamps_ms, columns.values, is_foreign, common_time(columns.timestamps_ms))

    def _page_slots(self, pages: Sequence[LabelPage], header: BatchHeader) -> Integers:
        found = [self._slots_of(page, header) for page in pages]
        return found[0] if len(found) == 1 else np.concatenate(found) if found else np.empty(0, np.int64)

    def _slots_of(self, page: LabelPage, header: BatchHeader) -> Integers:
        key = header.tenant, header.collector, page.name
        slots = self._pages.get(key)
        if slots is not None:
            self._pages.move_to_end(key)
            return slots
        slots = self._series.slots(header.tenant, header.collector, page.labels())
        self._pages[key] = slots
        self._cached += len(slots) + 1
        while self._cached > _CACHED_SLOTS and len(self._pages) > 1:
            self._cached -= len(self._pages.popitem(last=False)[1]) + 1
        return slots

    def _decode_old(self, value: bytes, header: BatchHeader, *, is_foreign: bool) -> Decoded:
        batch = decode_batch(value)
        index = batch.series_index
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(batch.series):
            raise DeadLetter("a record whose samples name series that it does not carry")
        check_times(batch.timestamps_ms, self._days_per_record)
        slots = self._series.slots(header.tenant, header.collector, batch.series)[index]
        return Decoded([Rows(slots, batch.timestamps_ms, batch.values, is_foreign)])


def common_time(timestamps_ms: Integers) -> int | None:
    """The time that all rows have, or None."""
    if len(timestamps_ms) and timestamps_ms.strides == (0,):  # one number, said again and again
        return int(timestamps_ms[0])
    if not len(timestamps_ms) or not (timestamps_ms == timestamps_ms[0]).all():
        return None
    return int(timestamps_ms[0])


def check_times(timestamps_ms: Integers, days_allowed: int) -> None:
    """Raises DeadLetter for times without a date, and for more days than one record may touch."""
    if not len(timestamps_ms):
        return
    if timestamps_ms.strides == (0,):
        timestamps_ms = timestamps_ms[:1]
    first, last = int(timestamps_ms.min()), int(timestamps_ms.max())
    if first < 0 or last >= LAST_MS:
        raise DeadLetter(f"timestamps from {first} to {last} ms; allowed: 0 to {LAST_MS - 1}")
    if last // DAY_MS - first // DAY_MS >= days_allowed:
        days = len(np.unique(timestamps_ms // DAY_MS))
        if days > days_allowed:
            raise DeadLetter(f"samples of {days} days in one record; allowed: {days_allowed}")


def check_histograms(rows: HistogramRows, days_allowed: int) -> HistogramRows:
    """Raises DeadLetter for what is no message, and for times without a date."""
    times = [parse_head(message).timestamp_ms for message in rows.messages]
    check_times(np.array(times, np.int64), days_allowed)
    return rows


def _beside(columns: SampleColumns, slots: Integers, sampled: Integers, days_allowed: int) -> Beside:
    """What a record of samples has beside them; `sampled` are the slots of the samples."""
    if columns.starts_ms is None and not (columns.histograms or columns.exemplars or columns.metadata):
        return NOTHING
    histograms = HistogramRows(
        slots[[row.index for row in columns.histograms]] if columns.histograms else _NO_SLOTS,
        tuple(row.message for row in columns.histograms),
    )
    exemplars, dropped = keep_dated(_exemplars(columns.exemplars, slots), LAST_MS, days_allowed)
    starts = StartRows()
    if columns.starts_ms is not None:
        starts = StartRows(sampled, columns.starts_ms, columns.timestamps_ms)
    return Beside(check_histograms(histograms, days_allowed), exemplars, starts, columns.metadata, dropped)


def _exemplars(rows: Sequence[ExemplarRow], slots: Integers) -> ExemplarRows:
    if not rows:
        return ExemplarRows()
    return ExemplarRows(
        slots[[row.index for row in rows]],
        np.array([row.timestamp_ms for row in rows], np.int64),
        np.array([row.value for row in rows], np.float64),
        tuple(row.labels for row in rows),
    )


class Decoder:
    """Decodes the records of one partition, in their order. Own frames build on each other within a group."""

    def __init__(self, series: SeriesIndex, days_per_record: int) -> None:
        self._samples = SampleDecoder(series, days_per_record)
        self._frames = SourceReaders(series.slots)
        self._days_per_record = days_per_record

    def decode(self, record: StoredRecord, header: BatchHeader, *, is_foreign: bool) -> Decoded:
        """The rows of a record. Raises DeadLetter, and Refuse kinds for frames that can't be read."""
        if header.format is not RecordFormat.FRAMES:
            return self._samples.decode(record.value, header, is_foreign=is_foreign)
        found = self._frames.read(header, record.value, record.offset)
        for each in found:
            check_times(each.timestamps_ms, self._days_per_record)
        rows = [_frame_rows(each, header, is_foreign=is_foreign) for each in found]
        return Decoded(rows, _frame_beside(found, self._days_per_record))

    def replay(self, record: StoredRecord) -> None:
        """Take in what later records may build on; rows are not wanted."""
        with suppress(DeadLetter):
            header = decode_header(record)
            if header.lane.topic == record.topic:
                self._frames.replay(header, record.value, record.offset)

    def replay_from(self, following: int) -> int:
        """The offset from which a reader has all state that a record from `following` on may build on."""
        return self._frames.replay_from(following)


def _frame_beside(found: Sequence[FrameRows], days_allowed: int) -> Beside:
    if not any(each.histograms or each.exemplars or each.starts or each.metadata for each in found):
        return NOTHING
    messages = [row for each in found for row in each.histograms]
    rows = [row for each in found for row in each.exemplars]
    histograms = HistogramRows(
        np.array([slot for slot, _ in messages], np.int64), tuple(message for _, message in messages)
    )
    exemplars, dropped = keep_dated(
        ExemplarRows(
            np.array([row.series for row in rows], np.int64),
            np.array([row.timestamp_ms for row in rows], np.int64),
            np.array([row.value for row in rows], np.float64),
            tuple(row.labels for row in rows),
        ),
        LAST_MS,
        days_allowed,
    )
    metadata = [
        Metadata(told.family, METRIC_TYPES[told.type], told.help, told.unit)
        for each in found
        for told in each.metadata
    ]
    return Beside(check_histograms(histograms, days_allowed), exemplars, _frame_starts(found), metadata, dropped)


def _frame_starts(found: Sequence[FrameRows]) -> StartRows:
    parts = [(each.starts, each.at_ms) for each in found if each.starts is not None]
    if not parts:
        return StartRows()
    return StartRows(
        np.concatenate([starts.series for starts, _ in parts]),
        np.concatenate([starts.starts_ms for starts, _ in parts]),
        np.concatenate([np.full(len(starts.series), at_ms, np.int64) for starts, at_ms in parts]),
    )


def _frame_rows(rows: FrameRows, header: BatchHeader, *, is_foreign: bool) -> Rows:
    stream = header.collector, header.lane, rows.stream
    at_ms = common_time(rows.timestamps_ms)
    return Rows(rows.series, rows.timestamps_ms, rows.values, is_foreign, at_ms, stream)
