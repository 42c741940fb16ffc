"""One flush: pending rows made into files, and a commit for each table that gets any; each step safe to repeat."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernel.crashpoints import crash_point
from kernel.log import TopicPartition
from kernel.objects import ObjectStore, check_name
from metering.batches import OffsetRange, StoredBatch
from metering.lake.batches import save_batches
from metering.lake.beside import BESIDE, HISTOGRAMS, BesideTable
from metering.lake.commit import SamplesCommit, check_fence, commit_files, commit_samples
from metering.lake.data_files import NewFile, beside_files, sample_files, series_files, used_slots
from metering.lake.faults import translated_errors
from metering.lake.horizon import Horizon
from metering.lake.intake import DeadRecord, Intake
from metering.lake.places import Places
from metering.lake.positions import Standing
from metering.lake.refusals import Refusals
from metering.lake.tables import SAMPLES, SERIES, Tables, has_commit

DEAD_LETTERS = "dead-letter/"


@dataclass(frozen=True, slots=True)
class BesideCommit:
    """The files that one table beside the samples gets."""

    table: BesideTable
    files: tuple[NewFile, ...]
    locations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    """What one commit will hold. Made once; stored as often as it takes."""

    commit: SamplesCommit
    sample_files: tuple[NewFile, ...]
    series_files: tuple[NewFile, ...]
    beside: tuple[BesideCommit, ...]
    series_slots: tuple[int, ...]
    series_locations: tuple[str, ...]
    dead: tuple[DeadRecord, ...]
    batches: Mapping[OffsetRange, Sequence[StoredBatch]]
    samples: int
    duplicates: int


def prepare(intake: Intake, tables: Tables, commit_id: str, row_group_rows: int) -> Flush:
    """Encode everything pending. Blocks; changes nothing."""
    samples_folder, series_folder = tables.folder(SAMPLES), tables.folder(SERIES)
    taken = {source: pending for source, pending in intake.pending.items() if not pending.is_empty}
    samples: list[NewFile] = []
    series: list[NewFile] = []
    beside: dict[BesideTable, list[NewFile]] = {}
    slots: set[int] = set()
    duplicates = 0
    for source, pending in sorted(taken.items()):
        made = sample_files(source, pending, intake.series, row_group_rows)
        samples.extend(made.files)
        duplicates += made.duplicates
        for table, file in beside_files(source, pending, intake.series):
            beside.setdefault(table, []).append(file)
        new = [slot for slot in intake.series.unstored(used_slots(pending)).tolist() if slot not in slots]
        slots.update(new)
        series.extend(series_files(source, pending, intake.series, new))
    commit = SamplesCommit(
        commit_id=commit_id,
        locations=tuple(f"{samples_folder}/{file.path}" for file in samples),
        first={source: pending.first for source, pending in taken.items()},
        following={
            source: Standing(pending.following, intake.replay_from(source)) for source, pending in taken.items()
        },
        states={name: state for pending in taken.values() for name, state in pending.states.items()},
    )
    return Flush(
        commit=commit,
        sample_files=tuple(samples),
        series_files=tuple(series),
        beside=tuple(_beside_commit(tables, table, beside[table]) for table in BESIDE if table in beside),
        series_slots=tuple(sorted(slots)),
        series_locations=tuple(f"{series_folder}/{file.path}" for file in series),
        dead=tuple(dead for pending in taken.values() for dead in pending.dead),
        batches={
            OffsetRange(*source, pending.first, pending.following - 1): tuple(pending.batches)
            for source, pending in taken.items()
        },
        samples=sum(file.rows for file in [*samples, *beside.get(HISTOGRAMS, ())]),
        duplicates=duplicates,
    )


def _beside_commit(tables: Tables, table: BesideTable, files: Sequence[NewFile]) -> BesideCommit:
    folder = tables.folder(table.identifier)
    return BesideCommit(table, tuple(files), tuple(f"{folder}/{file.path}" for file in files))


async def store(flush: Flush, places: Places, refusals: Refusals) -> Horizon:
    """Write files, then commit series, what is beside samples, and samples with positions and horizon.

    Returns the new horizon. Raises Fenced (drop the flush), LakeUnavailable and ObjectsUnavailable (call again
    with the same flush).
    """
    await _store_dead_letters(flush.dead, places.objects)
    await refusals.append(flush.dead)
    crash_point("lake.refusals-appended")
    await save_batches(places.objects, flush.batches)
    await asyncio.to_thread(_write_files, places.tables, flush)
    crash_point("lake.files-written")
    if flush.series_locations or flush.beside:
        await asyncio.to_thread(_check_early, places.tables, flush.commit)
    if flush.series_locations:
        await commit_files(places.tables, SERIES, flush.commit.commit_id, flush.series_locations)
    crash_point("lake.series-committed")
    for beside in flush.beside:
        await commit_files(places.tables, beside.table.identifier, flush.commit.commit_id, beside.locations)
        crash_point(f"lake.{beside.table.name}-committed")
    horizon = await commit_samples(places.tables, places.horizons, flush.commit)
    crash_point("lake.samples-committed")
    return horizon


def _check_early(tables: Tables, commit: SamplesCommit) -> None:
    # The samples commit decides; this only spares the other tables the rows of a writer that lost already.
    state = tables.samples()
    if not has_commit(state.table, commit.commit_id):
        check_fence(state, commit)


def _write_files(tables: Tables, flush: Flush) -> None:
    warehouse = tables.warehouse
    with translated_errors("writing data files"):
        for location, file in zip(flush.commit.locations, flush.sample_files, strict=True):
            warehouse.write(location, file.content)
        for location, file in zip(flush.series_locations, flush.series_files, strict=True):
            warehouse.write(location, file.content)
        for beside in flush.beside:
            for location, file in zip(beside.locations, beside.files, strict=True):
                warehouse.write(location, file.content)


async def _store_dead_letters(dead: Sequence[DeadRecord], objects: ObjectStore) -> None:
    for each in dead:
        record = each.record
        await objects.put(dead_letter_name(record.source, record.offset), render_dead_letter(each))


def dead_letter_name(source: TopicPartition, offset: int) -> str:
    """Where the record at that position is put aside; the same at every replay."""
    return check_name(f"{DEAD_LETTERS}{source.topic}/{source.partition}/{offset:020d}.json")


def render_dead_letter(dead: DeadRecord) -> bytes:
    """The whole record and the reason as JSON; bytes in base64, so that it can be appended again once repaired."""
    record = dead.record
    document = {
        "reason": dead.reason,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _base64(record.key),
        "headers": {name: _base64(value) for name, value in sorted(record.headers.items())},
        "value": _base64(record.value),
    }
    return json.dumps(document, sort_keys=True).encode()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
