"""Expire snapshots, and delete what no kept snapshot refers to. pyiceberg's expiry deletes no files.

Why a sweep deletes nothing that is about to be committed:
- a file of samples is named by its positions; once the lake stands behind its first one, no commit may ever add it
  (it would be fenced), so it is an orphan for good; before that it is left alone;
- horizon objects are named by a hash over a text with the id of their commit, so none is ever made again;
- all else (manifests, metadata, series files) must be older than the grace, which is longer than any commit takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from kernel.clock import Clock, to_ms
from kernel.log import TopicPartition
from kernel.logs import logger
from metering.lake import lineage
from metering.lake.faults import translated_errors
from metering.lake.horizon_store import PREFIX, object_name
from metering.lake.positions import HORIZON, parse_compacted_name, parse_file_name
from metering.lake.settings import LakeSettings
from metering.lake.tables import ALL_TABLES, SAMPLES, SERIES, Tables, storage

if TYPE_CHECKING:
    from metering.lake.api import Lake

_EXPIRE_AT_ONCE = 10  # an expiry is a commit of its own, so not for every snapshot
_log = logger("lake")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted."""

    files: int
    size_bytes: int


class Sweeper:
    """Housekeeping of one lake; run by its writer, between commits."""

    def __init__(self, lake: Lake, settings: LakeSettings, clock: Clock) -> None:
        self._lake = lake
        self._settings = settings
        self._clock = clock
        self._commits = 0

    async def committed(self) -> None:
        """To be called after each commit: expires when there may be enough. To look costs a read of every table."""
        if self._commits % _EXPIRE_AT_ONCE == 0:
            await self.expire()
        self._commits += 1

    async def expire(self) -> int:
        """Forget the oldest untagged snapshots when enough are over the limit; how many were forgotten."""
        return await asyncio.to_thread(expire_snapshots, self._lake.tables, self._settings.keep_snapshots)

    async def sweep(self) -> Swept:
        """Delete unreferenced files of all tables, horizons and lineages. Raises Retry kinds."""
        older_than_ms = self._clock.now_ms() - round(self._settings.orphan_grace_seconds * 1000)
        # Objects are listed before the table is read: one stored after that is not in the list.
        objects = [
            found
            for prefix in (PREFIX, lineage.PREFIX)
            async for found in self._lake.objects.list(prefix)
            if to_ms(found.modified_at) <= older_than_ms
        ]
        files, size = await asyncio.to_thread(sweep_tables, self._lake.tables, older_than_ms)
        referenced = await asyncio.to_thread(_referenced_objects, self._lake.tables)
        for found in objects:
            if found.name not in referenced:
                await self._lake.objects.delete(found.name)
                files, size = files + 1, size + found.size_bytes
        _log.info("lake_swept", files=files, size_bytes=size)
        return Swept(files, size)


def expire_snapshots(tables: Tables, keep: int) -> int:
    """Expire all untagged snapshots but the newest `keep`, of every table. Blocks. Raises LakeUnavailable."""
    expired = 0
    for identifier in ALL_TABLES:
        table = tables.load(identifier)
        protected = {reference.snapshot_id for reference in table.metadata.refs.values()}
        loose = [each for each in table.metadata.snapshots if each.snapshot_id not in protected]
        loose.sort(key=lambda each: each.sequence_number or 0)
        surplus = [each.snapshot_id for each in loose[: max(0, len(loose) + 1 - keep)]]
        if len(surplus) < _EXPIRE_AT_ONCE:
            continue
        try:
            with translated_errors("expiring snapshots"):
                table.maintenance.expire_snapshots().by_ids(surplus).commit()
            expired += len(surplus)
        except CommitFailedException:
            _log.info("expiry_conflict", table=identifier[1])  # another writer was there: the next time then
    return expired


def sweep_tables(tables: Tables, older_than_ms: int) -> tuple[int, int]:
    """Delete unreferenced files of all tables; how many, and their bytes. Blocks. Raises LakeUnavailable."""
    files = size = 0
    with translated_errors("sweeping"):
        for identifier in ALL_TABLES:
            table = tables.load(identifier)
            listed = list(storage(table).list_files(table.location()))
            # Read after the listing: what was committed meanwhile is referenced here.
            table = tables.load(identifier)
            keep = referenced_files(table)
            positions = tables.samples().positions if identifier != SERIES else None
            for found in listed:
                old = to_ms(found.modified_at) <= older_than_ms
                if old and _path(found.location) not in keep and not _may_be_committed(found.location, positions):
                    table.io.delete(found.location)
                    files, size = files + 1, size + found.size_bytes
    return files, size


def _may_be_committed(location: str, positions: Mapping[TopicPartition, int] | None) -> bool:
    name = parse_file_name(location)
    if name is None or positions is None:
        return False
    return name.first >= positions.get(name.source, 0)


def referenced_files(table: Table) -> set[str]:
    """Paths (without scheme) of every file that the table's metadata leads to."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    seen: set[str] = set()
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                entries: list[Any] = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                found.update(entry.data_file.file_path for entry in entries)
    return {_path(location) for location in found | seen}


def _referenced_objects(tables: Tables) -> set[str]:
    names = set()
    paths = set().union(*(referenced_files(tables.load(identifier)) for identifier in ALL_TABLES))
    for path in paths:
        compacted = parse_compacted_name(path)
        if compacted is not None:
            names.add(lineage.lineage_name(compacted.lineage))
    for snapshot in tables.load(SAMPLES).metadata.snapshots:
        sha256 = snapshot.summary.additional_properties.get(HORIZON) if snapshot.summary else None
        if sha256:
            names.add(object_name(sha256))
    return names


def _path(location: str) -> str:
    # file:/a, file:///a and /a name the same file.
    without = location.partition(":")[2] if ":" in location.partition("/")[0] else location
    return "/" + without.lstrip("/")
