"""Reading the lake: the rows of an organization in a window, each sample once, in order."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg import expressions
from pyiceberg.table import Table

from kernel.window import DAY_MS, Window
from metering.lake.errors import LakeDamaged
from metering.lake.merging import id_bytes
from metering.lake.ordering import id_words, sort_order
from metering.lake.series_table import read_series
from metering.lake.tables import SamplesState, Tables, translated_errors

COLUMNS = ("organization", "project", "collector", "labels", "series_id", "timestamp_ms", "value")
CONFLICTS = b"byoc.conflicts"
SNAPSHOT = b"byoc.snapshot"
# pyiceberg's predicates take (column, value) by place, which their own annotations do not say.
_on: Any = expressions
_THREADS = 2
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to read. `carry_in_ms`: also each series' latest sample at most so long before the window."""

    organization: str
    window: Window
    names: tuple[str, ...] | None = None
    project: str | None = None
    carry_in_ms: int = 0

    @property
    def reach(self) -> Window:
        return Window(self.window.start_ms - self.carry_in_ms, self.window.end_ms)


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows by column, sorted by slot and time; slots number series in the order of their ids."""

    slots: npt.NDArray[np.int64]
    timestamps_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def take(self, rows: Any) -> Samples:
        return Samples(self.slots[rows], self.timestamps_ms[rows], self.values[rows])


def scan_samples(tables: Tables, state: SamplesState, request: ScanRequest) -> pa.Table:
    """The rows asked for; see `Lake.scan`. Blocks. Raises LakeUnavailable, LakeDamaged."""
    # Series are committed before their samples, so those read now name all samples of an earlier snapshot.
    series = read_series(tables, request.organization, request.names, request.project)
    with translated_errors("reading samples"):
        found = _read_samples(state, series, request)
    unique, conflicts = drop_duplicates(found)
    kept = unique.take(_keep_carry_in(unique, request.window.start_ms))
    return _table(kept, series, conflicts, state.snapshot_id)


def plan_files(state: SamplesState, request: ScanRequest) -> list[Any]:
    """The data files that may hold rows of the request, by partition and by the bounds of their times."""
    if state.snapshot_id is None:
        return []
    scan = state.table.scan(row_filter=_samples_filter(request), snapshot_id=state.snapshot_id)
    tasks = list(scan.plan_files())
    if any(task.delete_files for task in tasks):
        raise LakeDamaged("the samples table carries delete files, which byoc does not read: rewrite those files")
    return [task.file for task in tasks]


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


def _value_order(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    bits = values.view(np.uint64)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.where(np.isnan(values), bits | _SIGN, ordered)  # NaN of either sign above +Inf


def _samples_filter(request: ScanRequest) -> Any:
    reach = request.reach
    tenant = _on.StartsWith("tenant", f"{request.organization}/")
    if request.project is not None:
        tenant = _on.EqualTo("tenant", f"{request.organization}/{request.project}")
    first, last = (str(np.datetime64(at // DAY_MS, "D")) for at in (reach.start_ms, reach.end_ms - 1))
    days = _on.GreaterThanOrEqual("day", first), _on.LessThanOrEqual("day", last)
    times = _on.GreaterThanOrEqual("timestamp_ms", reach.start_ms), _on.LessThan("timestamp_ms", reach.end_ms)
    return _on.And(tenant, *days, *times)


def _read_samples(state: SamplesState, series: pa.Table, request: ScanRequest) -> Samples:
    ids = id_bytes(series.column("series_id"))
    reader = _FileReader(state.table, ids, request)
    with ThreadPoolExecutor(_THREADS, "lake-scan") as pool:
        parts = list(pool.map(reader.read, plan_files(state, request)))
    if not parts:
        return Samples(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
    whole = Samples(
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.timestamps_ms for part in parts]),
        np.concatenate([part.values for part in parts]),
    )
    return whole.take(sort_order(whole.slots, whole.timestamps_ms))


class _FileReader:
    def __init__(self, table: Table, ids: npt.NDArray[np.uint8], request: ScanRequest) -> None:
        self._io = table.io
        self._slots: Mapping[bytes, int] = {each.tobytes(): slot for slot, each in enumerate(ids)}
        self._bounds = (ids[0].tobytes(), ids[-1].tobytes()) if len(ids) else (b"", b"")
        self._request = request
        self._must_know_all = request.names is None

    def read(self, file: Any) -> Samples:
        with self._io.new_input(file.file_path).open() as stream:
            source: Any = stream
            parquet = pq.ParquetFile(source)
            groups = [index for index in range(parquet.num_row_groups) if self._may_hold(parquet, index)]
            table = parquet.read_row_groups(groups, columns=["series_id", "timestamp_ms", "value"])
        times = table.column("timestamp_ms").to_numpy()
        slots = self._slots_of(id_bytes(table.column("series_id")), file.file_path)
        reach = self._request.reach
        chosen = (slots >= 0) & (times >= reach.start_ms) & (times < reach.end_ms)
        return Samples(slots[chosen], times[chosen], table.column("value").to_numpy()[chosen])

    def _may_hold(self, parquet: pq.ParquetFile, index: int) -> bool:
        group = parquet.metadata.row_group(index)
        ids: Any = group.column(0).statistics
        times: Any = group.column(1).statistics
        reach, (lowest, highest) = self._request.reach, self._bounds
        if (
            times is not None
            and times.has_min_max
            and not (times.min < reach.end_ms and times.max >= reach.start_ms)
        ):
            return False
        if self._must_know_all or ids is None or not ids.has_min_max:
            return True
        return bool(ids.min <= highest and ids.max >= lowest)

    def _slots_of(self, ids: npt.NDArray[np.uint8], path: str) -> npt.NDArray[np.int64]:
        # Sorted by id: look up each run of equal ids once.
        if not len(ids):
            return np.empty(0, np.int64)
        high, low = id_words(ids)
        starts = np.flatnonzero(np.append(True, (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
        found = [self._slots.get(ids[start].tobytes(), -1) for start in starts.tolist()]
        if self._must_know_all and -1 in found:
            raise LakeDamaged(f"{path} holds samples of a series that the series table does not know")
        return np.repeat(np.asarray(found, np.int64), np.diff(np.append(starts, len(ids))))


def _keep_carry_in(samples: Samples, start_ms: int) -> npt.NDArray[np.bool_]:
    inside = samples.timestamps_ms >= start_ms
    is_last = np.ones(len(inside), np.bool_)
    is_last[:-1] = inside[1:] | (samples.slots[1:] != samples.slots[:-1])
    return inside | is_last


def _table(samples: Samples, series: pa.Table, conflicts: int, snapshot_id: int | None) -> pa.Table:
    used, codes = np.unique(samples.slots, return_inverse=True)
    mine = series.take(used).combine_chunks()
    rows = pa.array(codes, pa.int32())

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
    metadata = {CONFLICTS: str(conflicts).encode(), SNAPSHOT: str(snapshot_id or "").encode()}
    return pa.table(columns, names=list(COLUMNS)).replace_schema_metadata(metadata)
