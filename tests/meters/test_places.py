"""A sealed row of a meter names the rows of the files that it was computed from: those are read again."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from console.migrate import migrate
from kernel.clock import VirtualClock, from_ms
from kernel.database import Database, sqlite_url
from kernel.errors import InvalidInput, NotFound
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.positions import file_sha256
from metering.meters.catalogue import parse_catalogue
from metering.meters.closer import MeterCloser
from metering.meters.store import MeterStore
from metering.usage.cli import app
from metering.usage.closer import HourCloser
from metering.usage.lake_source import LakeSource
from metering.usage.model import MeterRow, MeterUsage
from metering.usage.places import ranges_of
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.lake.setting import ACME, T0, Push, append, gauge, memory_log, open_lake, writer_of

MINUTE = 60_000
SPAN = Window(T0, T0 + 3 * HOUR_MS)
CATALOGUE = """
catalogue: test
version: 1
meters:
  - {meter: searches, description: x, kind: counter-increase, unit: searches, series: [{metric: searches_total}]}
  - {meter: rows, description: x, kind: peak, unit: rows, series: [{metric: rows}], group_by: [shard]}
"""
PODS = ("a", "b", "c")


def push(number: int, minutes: range) -> Push:
    """A sample a minute: searches of three pods, rows of two shards, and something that no meter reads."""
    metrics = [
        *(gauge("searches_total", cluster="orders", pod=pod, job="x") for pod in PODS),
        *(gauge("rows", cluster="orders", shard=shard, job="x") for shard in ("1", "2")),
        *(gauge("other", cluster="orders", pod=pod, job="x") for pod in PODS),
    ]
    samples = [
        (labels, T0 + minute * MINUTE, float(at + minute))
        for at, labels in enumerate(metrics)
        for minute in minutes
    ]
    return Push(samples, number)


async def close(folder: Path, pushes: list[Push], *, row_group_rows: int = 150) -> UsageStore:
    """The hours of samples that come in so many commits, each a file."""
    database, clock = Database(sqlite_url(folder / "byoc.sqlite")), VirtualClock(from_ms(T0 + DAY_MS))
    migrate(database)
    log, lake = await memory_log(partitions=1), await open_lake(folder)
    for commit in pushes:
        await append(log, [commit])
        await writer_of(lake, log, row_group_rows=row_group_rows).drain()
    source, store = LakeSource(lake, 0.0), UsageStore(database)
    meters = MeterCloser(source, MeterStore(database), parse_catalogue(CATALOGUE, "test"), clock, 300_000)
    closer = HourCloser(source, store, UsageSettings(close_deadline_seconds=0), clock, meters=meters)
    await closer.close_window(ACME.organization, SPAN)
    await lake.close()
    return store


class Deployment:
    """What `byoc usage` needs."""

    clock = VirtualClock(from_ms(T0 + DAY_MS))

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def database(self) -> Database:
        return Database(sqlite_url(self._folder / "byoc.sqlite"))


def rows_of(store: UsageStore, meter: str) -> tuple[MeterRow, ...]:
    found: MeterUsage = store.meter(ACME.organization, meter, SPAN, None)
    return tuple(found.rows)


def times_in_files(folder: Path, row: MeterRow) -> dict[bytes, list[int]]:
    """Times in the hour by series, of the rows that it names; at most so many as it says."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for each in ranges_of(row):
        name, sha256 = each.source.split(" ")
        (path,) = folder.glob(f"warehouse/**/data/{name}")
        assert file_sha256(path.name) == sha256
        table = pq.ParquetFile(path).read_row_group(each.row_group).slice(each.first, each.last - each.first + 1)
        times, ids = (cast("list[Any]", table.column(name).to_pylist()) for name in ("timestamp_ms", "series_id"))
        inside = [(one, at) for one, at in zip(ids, times, strict=True) if at in row.hour]
        assert each.count <= len(inside)
        assert inside[0][1] == times[0], "the first row named is of the hour"
        assert inside[-1][1] == times[-1], "and so is the last"
        for one, at in inside:
            found[one].append(at)
    return found


async def test_a_row_of_one_series_names_its_samples(tmp_path: Path) -> None:
    store = await close(tmp_path, [push(1, range(100)), push(2, range(100, 180))])
    found = rows_of(store, "rows")
    assert len(found) == 6, "two shards, three hours"
    for row in found:
        assert all(each.count == each.last - each.first + 1 for each in ranges_of(row))
        (times,) = times_in_files(tmp_path, row).values()
        assert sorted(times) == [row.hour.start_ms + minute * MINUTE for minute in range(60)]


async def test_a_row_of_several_series_names_first_last_and_how_many(tmp_path: Path) -> None:
    store = await close(tmp_path, [push(1, range(180))], row_group_rows=10_000)
    found = rows_of(store, "searches")
    assert len(found) == 3
    for row in found:
        (place,) = ranges_of(row)
        assert place.count == 60 * len(PODS)
        assert place.last - place.first + 1 > place.count, "hours and series of others lie in between"
        named = times_in_files(tmp_path, row)
        assert len(named) >= len(PODS)


async def test_hours_of_a_meter_are_listed_with_their_places(tmp_path: Path) -> None:
    await close(tmp_path, [push(1, range(180))], row_group_rows=10_000)
    words = ["hours", "acme", "--from", "2026-01-01T00:00", "--to", "2026-01-01T03:00", "--files"]

    def said(*more: str) -> list[str]:
        result = CliRunner().invoke(app, [*words, *more], obj=Deployment(tmp_path), catch_exceptions=False)
        return result.output.splitlines()

    hours = [text for text in said("--meter", "searches") if text.startswith("2026-01-01 ")]
    assert [text.split()[4] for text in hours] == ["177.000000", "180.000000", "180.000000"]
    assert any(text.endswith(", 180 of them") for text in said("--meter", "searches"))
    assert any(" shard=2 " in text for text in said("--meter", "rows"))
    assert said("--meter", "rows")[-1].startswith("catalogue test 1, digest ")
    with pytest.raises(NotFound, match="there is no meter 'nothing'"):
        said("--meter", "nothing")
    with pytest.raises(InvalidInput, match="--csv"):
        said("--meter", "rows", "--csv")


async def test_only_the_collector_that_counts_is_named(tmp_path: Path) -> None:
    """Two collectors of one pod: the second saw the first half of the hour alone."""
    labels = gauge("searches_total", cluster="orders", pod="a", job="x")
    whole = Push([(labels, T0 + minute * MINUTE, float(minute)) for minute in range(60)], 1)
    half = Push([(labels, T0 + minute * MINUTE + 1, float(minute)) for minute in range(30)], 1, collector="col-b")
    store = await close(tmp_path, [whole, half])
    first, *_ = rows_of(store, "searches")
    times = sorted(at for each in times_in_files(tmp_path, first).values() for at in each)
    assert times == [T0 + minute * MINUTE for minute in range(60)]


@pytest.mark.parametrize("meter", ["searches", "rows"])
async def test_merging_and_sealing_again_change_nothing(tmp_path: Path, meter: str) -> None:
    """Where a sample stands is no figure: rows are equal without it."""
    one = await close(tmp_path / "one", [push(1, range(180))])
    many = await close(tmp_path / "many", [push(at + 1, range(at * 60, at * 60 + 60)) for at in range(3)])
    figures = [
        [(row.cluster, row.dimensions, row.hour, row.quantity) for row in rows_of(each, meter)]
        for each in (one, many)
    ]
    assert figures[0] == figures[1]
    assert rows_of(one, meter)[1].places != rows_of(many, meter)[1].places
