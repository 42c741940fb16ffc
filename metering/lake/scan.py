"""Reading the lake: the rows of an organization in a window, each sample once, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernel.window import DAY_MS, Window
from metering.lake.faults import translated_errors
from metering.lake.file_reader import FileReader
from metering.lake.manifests import DataFile
from metering.lake.merging import id_bytes
from metering.lake.ordering import sort_order
from metering.lake.rows import Bools, Floats, Integers
from metering.lake.runs import FileRuns, row_order
from metering.lake.scaled import Scales
from metering.lake.series_table import read_series
from metering.lake.steady import RowRanges, SteadySeries
from metering.lake.tables import SamplesState, Tables

T = TypeVar("T")
COLUMNS = ("organization", "project", "collector", "labels", "series_id", "timestamp_ms", "value")
INTEGER_COLUMNS = ("integer", "scale")
CONFLICTS = b"byoc.conflicts"
SNAPSHOT = b"byoc.snapshot"
_THREADS = 2
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to read. `carry_in_ms`: also each series' latest sample at most so long before the window.

    `as_integers`: also each value as an integer and its scale.
    """

    organization: str
    window: Window
    names: tuple[str, ...] | None = None
    project: str | None = None
    carry_in_ms: int = 0
    as_integers: bool = False

    @property
    def reach(self) -> Window:
        return Window(self.window.start_ms - self.carry_in_ms, self.window.end_ms)


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows by column, sorted by slot and time; slots number series in the order of their ids.

    `integers` and their `scales` are there if they were asked for; a scale of -1: the value is no such decimal.
    """

    slots: Integers
    timestamps_ms: Integers
    values: Floats
    integers: Integers | None = None
    scales: Scales | None = None

    def take(self, rows: Any) -> Samples:
        return Samples._of([None if column is None else column[rows] for column in self.columns()])

    def columns(self) -> tuple[Any, ...]:
        """All of them, in the order of the fields."""
        return self.slots, self.timestamps_ms, self.values, self.integers, self.scales

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """One after the other."""
        columns = zip(*(part.columns() for part in parts), strict=True)
        return cls._of([None if column[0] is None else np.concatenate(column) for column in columns])

    @classmethod
    def _of(cls, columns: Sequence[Any]) -> Samples:
        return cls(*columns)


@dataclass(frozen=True, slots=True)
class PlacedSamples:
    """The rows of a scan, and where those of each series and hour stand; slots are rows of `series`."""

    samples: pa.Table  # see `Lake.scan`
    series: pa.Table  # see `Lake.series`
    ranges: RowRanges


def scan_samples(tables: Tables, state: SamplesState, request: ScanRequest) -> pa.Table:
    """The rows asked for; see `Lake.scan`. Blocks. Raises LakeUnavailable, LakeDamaged."""
    # Series are committed before their samples, so those read now name all samples of an earlier snapshot.
    series = read_series(tables, request.organization, request.names, request.project)
    with translated_errors("reading samples"):
        reader = _reader(state, series, request)
        files = _each(lambda file: reader.runs(file.location), plan_files(state, request))
    return _scanned(files, series, request, state.snapshot_id)


def scan_placed(tables: Tables, state: SamplesState, request: ScanRequest) -> PlacedSamples:
    """The same, with the places of the rows. Blocks and raises as above."""
    series = read_series(tables, request.organization, request.names, request.project)
    with translated_errors("reading samples"):
        reader = _reader(state, series, request)
        found = _each(lambda file: reader.placed(file.location), plan_files(state, request))
    samples = _scanned([runs for runs, _ in found], series, request, state.snapshot_id)
    return PlacedSamples(samples, series, RowRanges.joined([ranges for _, ranges in found]))


def plan_files(state: SamplesState, request: ScanRequest) -> list[DataFile]:
    """The data files that may hold rows of the request, by partition and by the bounds of their times."""
    if state.snapshot_id is None:
        return []
    reach, owner = request.reach, request.organization
    days = reach.start_ms // DAY_MS, (reach.end_ms - 1) // DAY_MS
    found = state.manifests.files(state.table, state.snapshot_id, owner, days)
    mine = (file for file in found if request.project in (None, file.project))
    return [file for file in mine if file.first_ms < reach.end_ms and file.last_ms >= reach.start_ms]


def drop_duplicates(samples: Samples) -> tuple[Samples, int]:
    """One sample for each (series, time), and how many instants had different values.

    Of different values the lower number wins, and any number wins over NaN and stale markers: the same choice
    whatever the order of files, and in doubt the lower usage.
    """
    same = np.zeros(len(samples.slots), np.bool_)
    same[1:] = (samples.slots[1:] == samples.slots[:-1]) & (samples.timestamps_ms[1:] == samples.timestamps_ms[:-1])
    if not same.any():
        return samples, 0
    ordered = samples.take(np.lexsort((_value_order(samples.values), samples.timestamps_ms, samples.slots)))
    bits = ordered.values.view(np.uint64)
    differs = same.copy()
    differs[1:] &= bits[1:] != bits[:-1]
    instants = np.cumsum(~same)
    return ordered.take(~same), len(np.unique(instants[differs]))


def _value_order(values: Floats) -> npt.NDArray[np.uint64]:
    bits = values.view(np.uint64)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.where(np.isnan(values), bits | _SIGN, ordered)  # NaN of either sign above +Inf


def scan_steady(tables: Tables, state: SamplesState, request: ScanRequest, limit_ms: int) -> SteadySeries:
    """What a window holds, file by file, as stretches of equal values; see `SteadyRuns`. Raises as above."""
    series = read_series(tables, request.organization, request.names, request.project)
    with translated_errors("reading samples"):
        reader = _reader(state, series, request)
        planned = plan_files(state, request)
        files = _each(lambda file: reader.steady(file.location, limit_ms), planned)

    def rows_of(slots: Integers) -> list[FileRuns]:
        with translated_errors("reading samples"):
            again = reader.of_slots(slots)
            return _each(lambda file: again.runs(file.location), planned)

    return SteadySeries(series, files, rows_of)


def _each(read: Callable[[Any], T], files: Sequence[Any]) -> list[T]:
    with ThreadPoolExecutor(_THREADS, "lake-scan") as pool:
        return list(pool.map(read, files))


def _reader(state: SamplesState, series: pa.Table, request: ScanRequest) -> FileReader:
    ids = id_bytes(series.column("series_id"))
    return FileReader(state.table.io, ids, request.reach, must_know_all=request.names is None)


def _scanned(
    files: Sequence[FileRuns], series: pa.Table, request: ScanRequest, snapshot_id: int | None
) -> pa.Table:
    unique, conflicts = drop_duplicates(_in_order(files, request))
    kept = unique.take(_keep_carry_in(unique, request.window.start_ms))
    return _table(kept, series, conflicts, snapshot_id)


def _in_order(files: Sequence[FileRuns], request: ScanRequest) -> Samples:
    if not files:
        nothing = np.empty(0, np.int64)
        scaled = (nothing, nothing.astype(np.int8)) if request.as_integers else ()
        return Samples(nothing, nothing, np.empty(0), *scaled)
    whole = Samples.joined([_samples(runs, request) for runs in files])
    order = row_order(files)
    return whole.take(sort_order(whole.slots, whole.timestamps_ms) if order is None else order)


def _samples(runs: FileRuns, request: ScanRequest) -> Samples:
    scaled = runs.values.as_integers(runs.counts) if request.as_integers else ()
    return Samples(np.repeat(runs.slots, runs.counts), runs.timestamps_ms, runs.values.values(), *scaled)


def _keep_carry_in(samples: Samples, start_ms: int) -> Bools:
    inside = samples.timestamps_ms >= start_ms
    is_last = np.ones(len(inside), np.bool_)
    is_last[:-1] = inside[1:] | (samples.slots[1:] != samples.slots[:-1])
    return inside | is_last


def _table(samples: Samples, series: pa.Table, conflicts: int, snapshot_id: int | None) -> pa.Table:
    starts = np.flatnonzero(np.append(True, samples.slots[1:] != samples.slots[:-1])[: len(samples.slots)])
    mine = series.take(samples.slots[starts]).combine_chunks()
    counts = np.diff(np.append(starts, len(samples.slots)))
    rows: Any = pa.array(np.repeat(np.arange(len(starts), dtype=np.int32), counts), pa.int32())

    def repeated(name: str, kind: Any) -> Any:
        distinct: Any = mine.column(name).cast(kind).combine_chunks().dictionary_encode()
        coded: Any = distinct.chunk(0) if isinstance(distinct, pa.ChunkedArray) else distinct
        return pa.DictionaryArray.from_arrays(coded.indices.take(rows), coded.dictionary)

    columns: list[Any] = [
        repeated("organization", pa.string()),
        repeated("project", pa.string()),
        repeated("collector", pa.string()),
        repeated("labels", pa.binary()),
        mine.column("series_id").combine_chunks().take(rows),
        pa.array(samples.timestamps_ms),
        pa.array(samples.values),
    ]
    names = list(COLUMNS)
    if samples.integers is not None and samples.scales is not None:
        is_double = samples.scales < 0
        columns += [pa.array(samples.integers, mask=is_double), pa.array(samples.scales, mask=is_double)]
        names += INTEGER_COLUMNS
    metadata = {CONFLICTS: str(conflicts).encode(), SNAPSHOT: str(snapshot_id or "").encode()}
    return pa.table(columns, names=names).replace_schema_metadata(metadata)
