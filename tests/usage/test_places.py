"""A sealed hour names the rows that it was computed from: they are read from the files and give it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from billing.proof.behind import Behind
from billing.proof.explain import explain_line
from console.migrate import migrate
from kernel.clock import VirtualClock, from_ms
from kernel.database import Database, sqlite_url
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.positions import file_sha256
from metering.lake.steady import RowRanges
from metering.usage.array_hours import Views, hour_table
from metering.usage.cli import app
from metering.usage.closer import HourCloser
from metering.usage.lake_source import LakeSource
from metering.usage.meter import LICENCE_METER
from metering.usage.places import places_of, ranges_of
from metering.usage.rows import UsageRow
from metering.usage.settings import UsageSettings
from metering.usage.store import HoursMoved, UsageStore
from metering.usage.stretches import Segments
from tests.lake.setting import ACME, T0, Push, append, gauge, memory_log, open_lake, writer_of

MINUTE = 60_000
SPAN = Window(T0, T0 + 4 * HOUR_MS)


class Vendor:
    """What `byoc usage` needs of a deployment."""

    clock = VirtualClock(from_ms(T0 + DAY_MS))

    def __init__(self, folder: Path) -> None:
        self.opened = Database(sqlite_url(folder / "byoc.sqlite"))
        migrate(self.opened)

    def database(self) -> Database:
        return self.opened


async def close(folder: Path, pushes: list[list[Push]]) -> Vendor:
    """The hours of samples that come in so many commits, each a file."""
    vendor, log, lake = Vendor(folder), await memory_log(partitions=1), await open_lake(folder)
    for commit in pushes:
        await append(log, commit)
        await writer_of(lake, log, row_group_rows=150).drain()
    settings = UsageSettings(close_deadline_seconds=0)
    closer = HourCloser(LakeSource(lake, 0.0), UsageStore(vendor.opened), settings, vendor.clock)
    await closer.close_window(ACME.organization, SPAN)
    await lake.close()
    return vendor


def push(number: int, minutes: range, clusters: tuple[str, ...] = ("orders", "search", "images")) -> Push:
    """A sample a minute of each cluster, whose level is the minute's tenth."""
    labels = [gauge("byoc_component_allocated_vcpu", cluster=name, component="query", job="x") for name in clusters]
    return Push([(each, T0 + minute * MINUTE, minute // 10 + 1.0) for each in labels for minute in minutes], number)


async def test_a_snapshot_that_is_gone_has_the_hours_looked_at_again(tmp_path: Path) -> None:
    lake = await open_lake(tmp_path)
    with pytest.raises(HoursMoved, match="no snapshot 7"):
        await LakeSource(lake, 0.0).gauges(ACME.organization, SPAN, LICENCE_METER, 60_000, 7)
    await lake.close()


def rows_in_files(folder: Path, row: UsageRow) -> list[tuple[int, float]]:
    """Times and values of what it names."""
    found: list[tuple[int, float]] = []
    for each in ranges_of(row):
        assert each.count == each.last - each.first + 1
        name, sha256 = each.source.split(" ")
        (path,) = folder.glob(f"warehouse/**/data/{name}")
        assert file_sha256(path.name) == sha256
        table = pq.ParquetFile(path).read_row_group(each.row_group).slice(each.first, each.last - each.first + 1)
        values = (table.column("reference").to_numpy() + table.column("delta").to_numpy()).tolist()
        found += zip(table.column("timestamp_ms").to_numpy().tolist(), values, strict=True)
    return sorted(found)


async def test_the_rows_that_an_hour_names_are_its_samples(tmp_path: Path) -> None:
    vendor = await close(tmp_path, [[push(1, range(100))], [push(2, range(100, 240))]])
    month = UsageStore(vendor.opened).month(ACME.organization, SPAN)
    assert len(month.rows) == 12
    for row in month.rows:
        first = (row.hour.start_ms - T0) // MINUTE
        expected = [(T0 + minute * MINUTE, minute // 10 + 1) for minute in range(first, first + 60)]
        assert rows_in_files(tmp_path, row) == expected
    assert {len(row.places.split()) for row in month.rows} == {1, 2}  # the hour from 01:00 stands in two files
    assert len({each.row_group for row in month.rows for each in ranges_of(row)}) > 1

    words = ["hours", "acme", "--from", "2026-01-01T01:00", "--to", "2026-01-01T02:00", "--files"]
    said = CliRunner().invoke(app, words, obj=vendor, catch_exceptions=False).output.splitlines()
    named = [line for line in said if " row group " in line]
    assert len(named) == 6
    one = next(ranges_of(month.rows[3]))
    assert f"    {one.source} row group {one.row_group} rows {one.first} to {one.last}" in named

    line = {
        "amount": "1.00",
        "kind": "licence",
        "description": "vCPU",
        "period": {"start": "2026-01-01T00:00:00.000Z", "end": "2026-01-01T04:00:00.000Z"},
        "derivation": {
            "facts": [],
            "quantity": {"exact": "1", "unit": "h"},
            "rate": None,
            "unrounded": {"exact": "1"},
            "rounding": {"exact": "0"},
        },
    }
    told = list(explain_line("USD", line, Behind(tuple(month.rows)), None))
    assert [row.places for row in month.rows if any(f"rows {row.places}" in each for each in told)] == [
        row.places for row in month.rows
    ]
    vendor.opened.close()


def test_only_the_view_that_counts_names_rows() -> None:
    """Two collectors of one component: the second saw all of the hour, the first half of it."""
    half, hour = HOUR_MS // 2, T0 // HOUR_MS
    segments = Segments(*(np.array(column) for column in ([0, 1], [T0, T0], [T0 + half, T0 + HOUR_MS - 1], [5, 5])))
    views, edges = Views(np.array([0, 1]), np.array([0, 0]), 1), np.array([T0, T0 + HOUR_MS])
    table = hour_table(segments, views, edges, MINUTE, np.array([False]))
    columns = map(np.array, ([0, 1, 1], [hour, hour, hour + 1], [0, 2, 2], [10, 40, 50], [7, 1, 3], [0, 0, 0]))
    name = f"x/data/t-0-{0:020d}-{1:020d}-{'ab' * 32}.parquet"
    slots, hours, groups, firsts, counts, files = columns
    ranges = RowRanges(slots, hours, groups, firsts, counts, files, (name,))
    assert places_of(ranges, table, views, edges) == {0: "abababababab:2:40-40"}
