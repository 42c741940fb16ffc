"""Compaction: the small files of a day and tenant become one, or few; the rows stay what they are, each of them.

What is read is checked against the hash in its name, so a damaged file is found here and never rewritten. Nothing
is deleted: old files go with the last snapshot that refers to them, and tagged snapshots keep theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pyiceberg.conversions import from_bytes
from pyiceberg.types import LongType

from kernel.crashpoints import crash_point
from kernel.ids import OrganizationId, ProjectId, Tenant, new_id
from kernel.logs import logger
from metering.lake.batches import save_merged
from metering.lake.beside import BESIDE, merge
from metering.lake.errors import FileDamaged
from metering.lake.faults import translated_errors
from metering.lake.lineage import origins, save_lineage
from metering.lake.merging import cut_runs, merge_runs, read_runs
from metering.lake.parquet import MERGED_LEVEL, merge_series, write_samples
from metering.lake.places import Places
from metering.lake.positions import CompactedName, FileName, file_sha256
from metering.lake.replace import replace_files
from metering.lake.settings import LakeSettings
from metering.lake.storage import LakeFileIO
from metering.lake.stretches import is_wide, prefix, stretched
from metering.lake.tables import ALL_TABLES, SAMPLES, SERIES, storage

_BESIDE_SHARE = 16  # a histogram takes so many times the memory of a sample, and more
_MOST_BYTES = 256 * 1024 * 1024  # of the files of one batch
_log = logger("lake")


@dataclass(frozen=True, slots=True)
class Batch:
    """Files of one partition of a table that are to become one. `day` is of samples alone.

    `is_stretched`: they are full already, and become as many, each of a stretch of ids.
    """

    table: tuple[str, str]
    folder: str
    files: tuple[Any, ...]
    rows: int
    day: int | None = None
    is_stretched: bool = False


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did."""

    files_before: int
    files_after: int
    rows: int
    size_before: int
    size_after: int


class Compactor:
    """Compacts one lake. Several may run: whoever comes second finds the files gone and leaves it."""

    def __init__(self, places: Places, settings: LakeSettings) -> None:
        self._places = places
        self._settings = settings
        self._damaged: set[str] = set()  # left alone, so that one does not keep all others from being merged

    async def compact_one(self, least_files: int | None = None) -> Compacted | None:
        """Compact the partition with the most small files, if any has `least_files`; None when none has.

        Raises LakeUnavailable, ObjectsUnavailable, and LakeDamaged: of a data file once, then it is left alone.
        """
        least = least_files or self._settings.compact_files
        most = self._settings.compact_samples
        batches = await asyncio.to_thread(find_batches, self._places.tables, most, frozenset(self._damaged))
        due = [batch for batch in batches if len(batch.files) >= least]
        if not due:
            return None
        return await self._compact(max(due, key=lambda batch: len(batch.files)))

    async def _compact(self, batch: Batch) -> Compacted | None:
        names: set[FileName] = set()
        for file in batch.files:
            names.update(await origins(self._places.objects, file.file_path))
        lineage = await save_lineage(self._places.objects, names)
        crash_point("lake.lineage-saved")
        await save_merged(self._places.objects, lineage, names)
        crash_point("lake.merge-recorded")
        try:
            locations, size = await asyncio.to_thread(self._rewrite, batch, lineage)
        except FileDamaged as error:
            self._damaged.add(error.location)
            raise
        done = await replace_files(self._places.tables, batch.table, new_id("commit"), batch.files, locations)
        before = sum(file.file_size_in_bytes for file in batch.files)
        found = Compacted(len(batch.files), len(locations), batch.rows, before, size)
        _log.info("lake_compacted" if done else "compaction_overtaken", folder=batch.folder, files=len(batch.files))
        return found if done else None

    def _rewrite(self, batch: Batch, lineage: str) -> tuple[tuple[str, ...], int]:
        table = self._places.tables.load(batch.table)
        warehouse = storage(table)
        with translated_errors("compacting"):
            contents = [_read(warehouse, file.file_path) for file in batch.files]
            locations, size = [], 0
            for content in self._merged(batch, contents):
                name = CompactedName(lineage, hashlib.sha256(content).hexdigest())
                locations.append(f"{table.location()}/data/{batch.folder}/{name}")
                warehouse.write(locations[-1], content)
                size += len(content)
        return tuple(locations), size

    def _merged(self, batch: Batch, contents: Sequence[bytes]) -> Iterator[bytes]:
        if batch.table == SERIES:
            yield merge_series(contents)
            return
        for table in BESIDE:
            if batch.table == table.identifier:
                yield from merge(table, contents)
                return
        assert batch.day is not None
        organization, project = batch.folder.split("/")[-2:]
        tenant = Tenant(OrganizationId(organization), ProjectId(project))
        most = self._settings.compact_samples
        merged = (
            stretched(contents, most)
            if batch.is_stretched
            else [merge_runs([read_runs(each) for each in contents])]
        )
        for runs in (piece for whole in merged for piece in cut_runs(whole, most)):
            yield write_samples(runs, batch.day, tenant, self._settings.row_group_rows, level=MERGED_LEVEL)


def _read(warehouse: LakeFileIO, location: str) -> bytes:
    """What the file's name says. Raises FileDamaged, OSError."""
    try:
        content = warehouse.read(location)
    except FileNotFoundError as error:
        raise FileDamaged(location, "is gone") from error
    if hashlib.sha256(content).hexdigest() != file_sha256(location):
        raise FileDamaged(location, "was altered")
    return content


def find_batches(tables: Any, most_rows: int, without: frozenset[str]) -> list[Batch]:
    """What could be compacted: files of one partition, one after the other in time, of at most so many rows; and of
    samples full ones that each have all series. Files `without` are left out.
    """
    found: list[Batch] = []
    for identifier in ALL_TABLES:
        rows = most_rows if identifier in (SAMPLES, SERIES) else max(1, most_rows // _BESIDE_SHARE)
        table = tables.load(identifier)
        with translated_errors("planning files"):
            files = [task.file for task in table.scan().plan_files()] if table.current_snapshot() else []
        small: dict[str, list[Any]] = {}
        full: dict[str, list[Any]] = {}
        for file in files:
            folder = file.file_path.rsplit("/data/", 1)[-1].rpartition("/")[0]
            if file_sha256(file.file_path) and file.file_path not in without:
                (small if file.record_count < rows / 2 else full).setdefault(folder, []).append(file)
        if identifier != SAMPLES:
            for folder, listed in sorted(small.items()):
                listed.sort(key=lambda file: file.file_path)
                found.extend(_batches(Batch(identifier, folder, (), 0), listed, rows))
            continue
        fields = {name: table.schema().find_field(name).field_id for name in ("timestamp_ms", "series_id")}
        for is_stretched, partitions in ((False, small), (True, full)):
            for folder, listed in sorted(partitions.items()):
                chosen = _wide(listed, fields["series_id"]) if is_stretched else listed
                chosen.sort(key=lambda file: (_first_ms(file, fields["timestamp_ms"]), file.file_path))
                like = Batch(identifier, folder, (), 0, _day_of(folder), is_stretched)
                found.extend(_batches(like, chosen, rows))
    return found


def _wide(files: list[Any], field: int) -> list[Any]:
    """Those that are no stretch of the ids of all together."""
    bounds = [(prefix(file.lower_bounds[field]), prefix(file.upper_bounds[field])) for file in files]
    whole = min(low for low, _ in bounds), max(high for _, high in bounds)
    return [file for file, each in zip(files, bounds, strict=True) if is_wide(each, whole)]


def _day_of(folder: str) -> int:
    return int(np.datetime64(folder.split("/", maxsplit=1)[0], "D").astype(np.int64))


def _batches(like: Batch, listed: list[Any], most_rows: int) -> Iterator[Batch]:
    """Files that follow each other, together as far as rows and bytes allow; of full ones bytes alone count."""
    taken: list[Any] = []
    rows = size = 0
    for file in [*listed, None]:
        if file is not None and (
            not taken
            or (
                (like.is_stretched or rows + file.record_count <= most_rows)
                and size + file.file_size_in_bytes <= _MOST_BYTES
            )
        ):
            taken.append(file)
            rows, size = rows + file.record_count, size + file.file_size_in_bytes
            continue
        if len(taken) > 1:
            yield replace(like, files=tuple(taken), rows=rows)
        taken, rows, size = ([file], file.record_count, file.file_size_in_bytes) if file is not None else ([], 0, 0)


def _first_ms(file: Any, field: int) -> int:
    value: Any = from_bytes(LongType(), file.lower_bounds[field])
    return int(value)
