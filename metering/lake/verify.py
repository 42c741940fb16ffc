"""Does the lake hold what it says? Every file is opened, hashed and read; what is wrong is a finding."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kernel.log import TopicPartition
from metering.lake.beside import BESIDE, BesideTable
from metering.lake.beside_verify import wrong_rows
from metering.lake.errors import LakeDamaged
from metering.lake.faults import unreadable_metadata
from metering.lake.lineage import origins
from metering.lake.merging import id_bytes, is_sorted, read_runs
from metering.lake.places import Places
from metering.lake.positions import FileName, file_sha256
from metering.lake.tables import ALL_TABLES, SAMPLES, SERIES, SamplesState, storage


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    findings: list[str] = field(default_factory=list)


async def verify(places: Places, ends: Mapping[TopicPartition, int] | None) -> Report:
    """Look at everything that the newest snapshot refers to. `ends` are the log's, None when it can't be asked.

    Raises Retry kinds when catalog, warehouse or objects do not answer.
    """
    report = Report()
    report.findings += await asyncio.to_thread(_unreadable, places)
    if report.findings:
        return report  # which files there are is not known
    state = await asyncio.to_thread(places.tables.samples)
    known = await asyncio.to_thread(_verify_series, places, report)
    await _verify_horizon(places, state, report)
    report.findings += _misplaced(state, ends)
    seen: dict[FileName, str] = {}
    for file in await asyncio.to_thread(_files, state.table):
        content = await asyncio.to_thread(_verify_bytes, places, SAMPLES, file, report)
        if content is not None:
            report.findings += await asyncio.to_thread(lambda: list(_wrong_rows(file, content, known)))  # noqa: B023
        await _verify_origins(places, state, file, seen, report)
    for table in BESIDE:
        await _verify_beside(places, table, known, report)
    return report


async def _verify_beside(places: Places, table: BesideTable, known: set[bytes], report: Report) -> None:
    for file in await asyncio.to_thread(lambda: _files(places.tables.load(table.identifier))):
        content = await asyncio.to_thread(_verify_bytes, places, table.identifier, file, report)
        if content is not None:
            report.findings += await asyncio.to_thread(
                lambda: list(wrong_rows(table, file, content, known))  # noqa: B023
            )
        try:
            await origins(places.objects, file.file_path)
        except LakeDamaged as error:
            report.findings.append(f"{file.file_path}: {error}")


def _unreadable(places: Places) -> list[str]:
    return [each for identifier in ALL_TABLES for each in unreadable_metadata(places.tables.load(identifier))]


def _files(table: Any) -> list[Any]:
    return [task.file for task in table.scan().plan_files()] if table.current_snapshot() else []


def _verify_series(places: Places, report: Report) -> set[bytes]:
    known: set[bytes] = set()
    for file in _files(places.tables.load(SERIES)):
        content = _verify_bytes(places, SERIES, file, report)
        if content is not None:
            ids = id_bytes(pq.read_table(pa.BufferReader(content), columns=["series_id"]).column("series_id"))
            known.update(each.tobytes() for each in ids)
            if len(ids) != file.record_count:
                report.findings.append(f"{file.file_path}: {len(ids)} rows; the table says {file.record_count}")
    return known


def _verify_bytes(places: Places, table: tuple[str, str], file: Any, report: Report) -> bytes | None:
    report.files += 1
    report.rows += file.record_count if table != SERIES else 0
    report.size_bytes += file.file_size_in_bytes
    location: str = file.file_path
    try:
        content = storage(places.tables.load(table)).read(location)
    except FileNotFoundError:
        report.findings.append(f"{location}: is gone; restore it from a copy")
        return None
    except LakeDamaged as error:
        report.findings.append(f"{location}: {error}")
        return None
    if len(content) != file.file_size_in_bytes:
        report.findings.append(f"{location}: {len(content)} bytes; the table says {file.file_size_in_bytes}")
    if hashlib.sha256(content).hexdigest() != file_sha256(location):
        report.findings.append(f"{location}: is not what the hash in its name says; restore it from a copy")
        return None
    return content


def _wrong_rows(file: Any, content: bytes, known: set[bytes]) -> Iterator[str]:
    runs = read_runs(content)
    if len(runs.values) != file.record_count:
        yield f"{file.file_path}: {len(runs.values)} rows; the table says {file.record_count}"
    if not is_sorted(runs):
        yield f"{file.file_path}: rows are not in the order of ids and times"
    unknown = sum(each.tobytes() not in known for each in runs.ids)
    if unknown:
        yield f"{file.file_path}: samples of {unknown} series that the series table does not have"
    day = np.datetime64(file.file_path.rsplit("/data/", 1)[-1].split("/")[0], "ms").astype(np.int64)
    if len(runs.values) and not day <= runs.timestamps_ms.min() <= runs.timestamps_ms.max() < day + 86_400_000:
        yield f"{file.file_path}: samples of another day"


async def _verify_origins(
    places: Places, state: SamplesState, file: Any, seen: dict[FileName, str], report: Report
) -> None:
    try:
        found = await origins(places.objects, file.file_path)
    except LakeDamaged as error:
        report.findings.append(f"{file.file_path}: {error}")
        return
    for origin in found:
        # A large merge is cut into several files that all come from the same ones.
        other = seen.setdefault(origin, file.file_path)
        if _lineage(other) != _lineage(file.file_path):
            report.findings.append(f"{origin}: is in two files, {other} and {file.file_path}")
        if origin.last >= state.positions.get(origin.source, 0):
            report.findings.append(f"{file.file_path}: holds records at or after the lake's position")


def _lineage(location: str) -> str:
    return location.rpartition("/")[2][: len("compacted-") + 64]


async def _verify_horizon(places: Places, state: SamplesState, report: Report) -> None:
    try:
        await places.horizons.load(state.horizon_sha256)
    except LakeDamaged as error:
        report.findings.append(str(error))


def _misplaced(state: SamplesState, ends: Mapping[TopicPartition, int] | None) -> Iterator[str]:
    for source, position in sorted(state.positions.items()):
        name = f"{source.topic}/{source.partition}"
        if state.replay_from.get(source, position) > position:
            yield f"{name}: to be read from {state.replay_from[source]}, after the position {position}"
        if ends is not None and position > ends.get(source, 0):
            yield f"{name}: the lake stands at {position}, the log ends at {ends.get(source, 0)}: another log"
