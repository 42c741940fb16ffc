"""What is pending of a partition as data files: samples by day and tenant, series by organization.

A file's name says which records it was made from and what is in it, so writing again after a crash gives the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kernel.log import TopicPartition
from kernel.window import DAY_MS
from metering.lake.beside import BesideTable
from metering.lake.beside_files import beside_contents
from metering.lake.intake import Pending
from metering.lake.ordering import order_rows
from metering.lake.parquet import write_samples, write_series
from metering.lake.positions import FileName
from metering.lake.rows import Integers, Rows
from metering.lake.series import SeriesIndex
from metering.lake.turning import distinct


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written at `path`, relative to its table's data folder."""

    path: str
    content: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files of one partition's pending rows, and how many equal foreign samples were dropped."""

    files: tuple[NewFile, ...]
    duplicates: int


def sample_files(source: TopicPartition, pending: Pending, series: SeriesIndex, row_group_rows: int) -> SampleFiles:
    """The Parquet files of one partition's pending rows."""
    files, dropped = [], 0
    for tenant in sorted(pending.rows):
        for day, parts in sorted(by_day(pending.rows[tenant]).items()):
            runs = order_rows(parts, series)
            dropped += runs.duplicates
            content = write_samples(runs, day, tenant, row_group_rows)
            folder = f"{np.datetime64(day, 'D')}/{tenant.organization}/{tenant.project}"
            files.append(NewFile(f"{folder}/{_name(source, pending, content)}", content, len(runs.values)))
    return SampleFiles(tuple(files), dropped)


def by_day(parts: list[Rows]) -> dict[int, list[Rows]]:
    """Rows by days since 1970."""
    found: dict[int, list[Rows]] = {}
    for part in parts:
        if part.at_ms is not None:
            found.setdefault(part.at_ms // DAY_MS, []).append(part)
            continue
        days = part.timestamps_ms // DAY_MS
        distinct_days = np.unique(days).tolist()
        for day in distinct_days:
            found.setdefault(day, []).append(part if len(distinct_days) == 1 else part.take(days == day))
    return found


def series_files(
    source: TopicPartition, pending: Pending, series: SeriesIndex, slots: Iterable[int]
) -> Iterator[NewFile]:
    """Files of new series, one for each organization."""
    by_organization: dict[str, list[int]] = {}
    for slot in slots:
        by_organization.setdefault(series.series(slot).tenant.organization, []).append(slot)
    for organization, members in sorted(by_organization.items()):
        ids = series.ids(np.asarray(members, np.int64))
        content = write_series([series.series(slot) for slot in members], ids)
        yield NewFile(f"{organization}/{_name(source, pending, content)}", content, len(members))


def beside_files(
    source: TopicPartition, pending: Pending, series: SeriesIndex
) -> Iterator[tuple[BesideTable, NewFile]]:
    """The Parquet files of what is pending of one partition beside samples."""
    for table, folder, rows, content in beside_contents(pending.beside, series):
        yield table, NewFile(f"{folder}/{_name(source, pending, content)}", content, rows)


def used_slots(pending: Pending) -> Integers:
    """The slots that pending rows, histograms and exemplars refer to, ascending."""
    slots = distinct([rows for listed in pending.rows.values() for rows in listed])
    parts = pending.beside.slots()
    return np.unique(np.concatenate([slots, *parts])) if parts else slots


def _name(source: TopicPartition, pending: Pending, content: bytes) -> FileName:
    return FileName(source, pending.first, pending.following - 1, hashlib.sha256(content).hexdigest())
