"""Compaction: the small files of a day and tenant become one, or few; the rows stay what they are, each of them.

What is read is checked against the hash in its name, so a damaged file is found here and never rewritten. Nothing
is deleted: old files go with the last snapshot that refers to them, and tagged snapshots keep theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyiceberg.conversions import from_bytes
from pyiceberg.types import LongType

from kernel.ids import OrganizationId, ProjectId, Tenant, new_id
from kernel.logs import logger
from metering.lake.batches import save_merged
from metering.lake.beside import BESIDE, merge
from metering.lake.errors import LakeDamaged
from metering.lake.lineage import origins, save_lineage
from metering.lake.merging import cut_runs, merge_runs, read_runs
from metering.lake.parquet import MERGED_LEVEL, merge_series, write_samples
from metering.lake.places import Places
from metering.lake.positions import CompactedName, FileName, file_sha256
from metering.lake.replace import replace_files
from metering.lake.settings import LakeSettings
from metering.lake.tables import ALL_TABLES, SAMPLES, SERIES, storage, translated_errors

_BESIDE_SHARE = 16  # a histogram takes so many times the memory of a sample, and more
_MOST_BYTES = 256 * 1024 * 1024  # of the files of one batch
_log = logger("lake")


@dataclass(frozen=True, slots=True)
class Batch:
    """Files of one partition of a table that are to become one. `day` is of samples alone."""

    table: tuple[str, str]
    folder: str
    files: tuple[Any, ...]
    rows: int
    day: int | None = None


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

    async def compact_one(self, least_files: int | None = None) -> Compacted | None:
        """Compact the partition with the most small files, if any has `least_files`; None when none has.

        Raises LakeUnavailable, ObjectsUnavailable, LakeDamaged.
        """
        least = least_files or self._settings.compact_files
        batches = await asyncio.to_thread(find_batches, self._places.tables, self._settings.compact_samples)
        due = [batch for batch in batches if len(batch.files) >= least]
        if not due:
            return None
        return await self._compact(max(due, key=lambda batch: len(batch.files)))

    async def _compact(self, batch: Batch) -> Compacted | None:
        names: set[FileName] = set()
        for file in batch.files:
            names.update(await origins(self._places.objects, file.file_path))
        lineage = await save_lineage(self._places.objects, names)
        await save_merged(self._places.objects, lineage, names)
        locations, size = await asyncio.to_thread(self._rewrite, batch, lineage)
        done = await replace_files(self._places.tables, batch.table, new_id("commit"), batch.files, locations)
        before = sum(file.file_size_in_bytes for file in batch.files)
        found = Compacted(len(batch.files), len(locations), batch.rows, before, size)
        _log.info("lake_compacted" if done else "compaction_overtaken", folder=batch.folder, files=len(batch.files))
        return found if done else None

    def _rewrite(self, batch: Batch, lineage: str) -> tuple[tuple[str, ...], int]:
        table = self._places.tables.load(batch.table)
        warehouse = storage(table)
        with translated_errors("compacting"):
            contents = [checked_content(warehouse.read(file.file_path), file.file_path) for file in batch.files]
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
        for runs in cut_runs(merge_runs([read_runs(each) for each in contents]), self._settings.compact_samples):
            yield write_samples(runs, batch.day, tenant, self._settings.row_group_rows, level=MERGED_LEVEL)


def checked_content(content: bytes, location: str) -> bytes:
    """`content` if it is what the file's name says. Raises LakeDamaged."""
    if hashlib.sha256(content).hexdigest() != file_sha256(location):
        raise LakeDamaged(f"{location} was altered: restore it from a copy")
    return content


def find_batches(tables: Any, most_rows: int) -> list[Batch]:
    """What could be compacted: files of one partition, one after the other in time, of at most so many rows."""
    found: list[Batch] = []
    for identifier in ALL_TABLES:
        rows = most_rows if identifier in (SAMPLES, SERIES) else max(1, most_rows // _BESIDE_SHARE)
        table = tables.load(identifier)
        with translated_errors("planning files"):
            files = [task.file for task in table.scan().plan_files()] if table.current_snapshot() else []
        partitions: dict[str, list[Any]] = {}
        for file in files:
            folder = file.file_path.rsplit("/data/", 1)[-1].rpartition("/")[0]
            if file_sha256(file.file_path) and file.record_count < rows / 2:
                partitions.setdefault(folder, []).append(file)
        field = table.schema().find_field("timestamp_ms").field_id if identifier == SAMPLES else None
        for folder, listed in sorted(partitions.items()):
            found.extend(_batches(identifier, folder, listed, field, rows))
    return found


def _batches(
    identifier: tuple[str, str], folder: str, listed: list[Any], field: int | None, most_rows: int
) -> Iterator[Batch]:
    day = None
    if field is None:
        listed.sort(key=lambda file: file.file_path)
    else:
        listed.sort(key=lambda file: (_first_ms(file, field), file.file_path))
        day = int(np.datetime64(folder.split("/", maxsplit=1)[0], "D").astype(np.int64))
    taken: list[Any] = []
    rows = size = 0
    for file in [*listed, None]:
        if file is not None and (
            not taken or (rows + file.record_count <= most_rows and size + file.file_size_in_bytes <= _MOST_BYTES)
        ):
            taken.append(file)
            rows, size = rows + file.record_count, size + file.file_size_in_bytes
            continue
        if len(taken) > 1:
            yield Batch(identifier, folder, tuple(taken), rows, day)
        taken, rows, size = ([file], file.record_count, file.file_size_in_bytes) if file is not None else ([], 0, 0)


def _first_ms(file: Any, field: int) -> int:
    value: Any = from_bytes(LongType(), file.lower_bounds[field])
    return int(value)
