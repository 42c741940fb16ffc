"""Another engine reads the same tables and bills the same integers: Spark, with Iceberg's own reader."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from kernel.ids import CollectorId, OrganizationId
from kernel.window import HOUR_MS, Window
from metering.lake.api import Lake
from metering.lake.compact import Compactor
from metering.lake.settings import LakeSettings
from metering.lake.tables import SAMPLES, SERIES
from metering.record import LabelSet, canonical_labels, series_id
from metering.usage.hours import component_hours
from metering.usage.lake_source import LakeSource
from metering.usage.meter import LICENCE_METER
from tests.lake.setting import ACME, T0, Push, Row, append, gauge, memory_log, open_lake, writer_of
from tests.services.spark import Spark
from tests.usage.scrapes import STALE

pytestmark = pytest.mark.services

LIMIT_MS = 300_000
HOURS = [Window(T0 + at * HOUR_MS, T0 + (at + 1) * HOUR_MS) for at in range(4)]
SQL = Path(__file__).with_name("usage_hours.sql")
Integrals = dict[tuple[str, int], int]


def component(number: int) -> LabelSet:
    return gauge(LICENCE_METER.metric, cluster=f"cluster-{number}", component="query")


def scrapes(dice: random.Random) -> list[Row]:
    """Levels that change, gaps longer than the limit, ends, late rows and rows that contradict others."""
    rows: list[Row] = []
    for number in range(6):
        for at in range(T0 + dice.randrange(60_000), HOURS[-1].end_ms, 15_000):
            if (at // 600_000 + number) % 7 == 0:
                continue
            value = STALE if dice.random() < 0.01 else dice.choice([0.0, 0.5, 1.125, 4.0, 31.999, 1e-3])
            rows.append((component(number), at, value))
            if dice.random() < 0.02:
                rows.append((component(number), at, dice.choice([0.25, 77.0, STALE])))
    dice.shuffle(rows)
    return rows


async def filled(folder: Path) -> Lake:
    """Some commits, merged, and some after that which are not."""
    log, lake = await memory_log(), await open_lake(folder)
    rows = scrapes(random.Random(4))
    step = len(rows) // 8
    for number in range(9):
        await append(log, [Push(rows[number * step : (number + 1) * step], number=number + 1)])
        await writer_of(lake, log).drain()
        if number == 5:
            while await Compactor(lake.places, LakeSettings()).compact_one(least_files=2):
                pass
    return lake


async def as_usage_has_it(lake: Lake) -> Integrals:
    window = Window(HOURS[0].start_ms - LIMIT_MS, HOURS[-1].end_ms)
    snapshot_id = await lake.snapshot_id()
    source = LakeSource(lake, 0.0)
    reading = await source.gauges(OrganizationId("acme"), window, LICENCE_METER, LIMIT_MS, snapshot_id)
    ids = {
        f"cluster-{at}": series_id(ACME, CollectorId("col-a"), canonical_labels(component(at))) for at in range(6)
    }
    found = component_hours(reading, HOURS, LIMIT_MS, frozenset())
    return {
        (ids[each.component.cluster].hex(), hour.start_ms): each.milli_vcpu_ms
        for hour, listed in zip(HOURS, found, strict=True)
        for each in listed.components
        if each.milli_vcpu_ms
    }


async def test_spark_gets_the_same_integers_as_usage(tmp_path: Path, spark: Spark) -> None:
    lake = await filled(tmp_path)
    bounds = {"limit_ms": LIMIT_MS, "forever_ms": 2**62, "first_ms": T0, "last_ms": HOURS[-1].start_ms}
    views = {name[1]: lake.tables.load(name).metadata_location for name in (SAMPLES, SERIES)}
    rows: list[dict[str, Any]] = await asyncio.to_thread(spark.query, views, SQL.read_text().format(**bounds))
    theirs = {(row["series_id"], row["hour_ms"]): int(row["milli_vcpu_ms"]) for row in rows if row["milli_vcpu_ms"]}
    ours = await as_usage_has_it(lake)
    assert len(ours) == 6 * len(HOURS)
    assert theirs == ours
    await lake.close()
