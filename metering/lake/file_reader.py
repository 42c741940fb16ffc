"""A data file of samples, read: its rows, or the stretches in which their values stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from kernel.window import HOUR_MS, Window
from metering.lake import native
from metering.lake.coded_groups import CodedGroup, coded_group, is_of_the_writer
from metering.lake.errors import LakeDamaged
from metering.lake.merging import id_bytes, run_starts
from metering.lake.rows import Ids, Integers
from metering.lake.runs import FileRuns
from metering.lake.steady import Group, RowRanges, SteadyRuns, ranges_of, steady_of, steady_of_kernel
from metering.lake.stored_values import StoredValues, read_columns


class FileReader:
    """Reads rows of some series in `reach`. `ids` of shape (n, 16) are theirs, ascending; a slot is a row of it."""

    def __init__(self, io: Any, ids: Ids, reach: Window, *, must_know_all: bool) -> None:
        self._io = io
        self._ids = ids
        self._slots: Mapping[bytes, int] = {each.tobytes(): slot for slot, each in enumerate(ids)}
        self._bounds = (ids[0].tobytes(), ids[-1].tobytes()) if len(ids) else (b"", b"")
        self._reach = reach
        self._must_know_all = must_know_all

    def of_slots(self, slots: Integers) -> FileReader:
        """One that reads these series alone, under the same numbers."""
        chosen = np.sort(slots)
        reader = FileReader(self._io, self._ids[chosen], self._reach, must_know_all=False)
        reader._slots = {self._ids[slot].tobytes(): slot for slot in chosen.tolist()}
        return reader

    def runs(self, location: str) -> FileRuns:
        """The rows. Raises LakeDamaged."""
        with self._io.new_input(location).open() as stream:
            parquet = pq.ParquetFile(stream)
            return self._runs(parquet, self._groups(parquet), location).within(self._reach)

    def placed(self, location: str) -> tuple[FileRuns, RowRanges]:
        """The rows, and where those of each series and hour stand. Raises LakeDamaged."""
        found: list[FileRuns] = []
        ranges: list[RowRanges] = []
        with self._io.new_input(location).open() as stream:
            parquet = pq.ParquetFile(stream)
            for index in self._groups(parquet):
                runs = self._runs(parquet, [index], location)
                ranges.append(ranges_of(runs, Group(location, index), self._reach))
                found.append(runs.within(self._reach))
            runs = FileRuns.joined(found or [self._runs(parquet, [], location)])
        return runs, RowRanges.joined(ranges)

    def steady(self, location: str, limit_ms: int) -> SteadyRuns:
        """The stretches of the rows; by the compiled kernel where the file was coded by the lake's writer."""
        found: list[SteadyRuns] = []
        with self._io.new_input(location).open() as stream:
            parquet = pq.ParquetFile(stream)
            is_own = native.steady is not None and is_of_the_writer(parquet.metadata)
            for index in self._groups(parquet):
                coded = coded_group(stream, parquet.metadata, index) if is_own else None
                stretches = None if coded is None else self._by_kernel(coded, index, limit_ms, location)
                if stretches is None:
                    runs = self._runs(parquet, [index], location)
                    stretches = steady_of(runs, Group(location, index), self._reach, limit_ms)
                found.append(stretches)
        return SteadyRuns.joined(found)

    def _by_kernel(self, coded: CodedGroup, index: int, limit_ms: int, location: str) -> SteadyRuns | None:
        slots = self._slots_of(coded.ids, location)
        wanted = (slots >= 0).astype(np.uint8).tobytes()
        others = wanted, coded.references, coded.scales
        window = self._reach.start_ms, self._reach.end_ms
        assert native.steady is not None
        try:
            segments, ranges = native.steady(coded.pages, others, coded.rows, *window, limit_ms, HOUR_MS)
        except ValueError:  # coded otherwise
            return None
        return steady_of_kernel(slots, segments, ranges, Group(location, index))

    def _runs(self, parquet: pq.ParquetFile, groups: Sequence[int], location: str) -> FileRuns:
        table = read_columns(parquet, groups)
        times = table.column("timestamp_ms").to_numpy()
        ids = id_bytes(table.column("series_id"))
        starts = run_starts(ids)
        counts = np.diff(np.append(starts, len(ids)))
        return FileRuns(self._slots_of(ids[starts], location), counts, times, StoredValues.of(table))

    def _groups(self, parquet: pq.ParquetFile) -> list[int]:
        return [index for index in range(parquet.num_row_groups) if self._may_hold(parquet, index)]

    def _may_hold(self, parquet: pq.ParquetFile, index: int) -> bool:
        group = parquet.metadata.row_group(index)
        ids: Any = group.column(0).statistics
        times: Any = group.column(1).statistics
        lowest, highest = self._bounds
        if (
            times is not None
            and times.has_min_max
            and not (times.min < self._reach.end_ms and times.max >= self._reach.start_ms)
        ):
            return False
        if self._must_know_all or ids is None or not ids.has_min_max:
            return True
        return bool(ids.min <= highest and ids.max >= lowest)

    def _slots_of(self, ids: Ids, path: str) -> Integers:
        found = [self._slots.get(each.tobytes(), -1) for each in ids]
        if self._must_know_all and -1 in found:
            raise LakeDamaged(f"{path} holds samples of a series that the series table does not know")
        return np.asarray(found, np.int64)
