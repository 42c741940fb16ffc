"""Parts of sealed hours: where data is missing, what was the level before, and months that begin inside an hour."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, QUARTER_MS, Window
from metering.usage.models import usage_hours, usage_rows
from metering.usage.rows import UsageGap
from metering.usage.store import UsageStore
from tests.databases import open_migrated
from tests.effort import costly
from tests.usage.months import ACME
from tests.usage.scrapes import STALE, Row, gauge, scrape
from tests.usage.test_closer import (
    MINUTE,
    SPAN,
    T0,
    databases,  # noqa: F401 - a fixture
    files,
    minutes,
    vendor,
)


async def test_a_gap_knows_when_it_began_and_the_level_before(databases: Path) -> None:  # noqa: F811
    """
    18:00-18:30  4 vCPU, at 18:30 it falls to 1: held to 18:35
    18:35-20:10  nothing
    20:10-20:20  2 vCPU, then it ends
    """
    acme = vendor(databases)
    end = T0 + 140 * MINUTE
    fell = [gauge(T0 + 30 * MINUTE, 1.0), scrape(T0 + 30 * MINUTE)]
    ended = [gauge(end, STALE), scrape(end)]
    acme.lake.add([*minutes(0, 29), *fell, *minutes(130, 139, 2.0), *ended])
    await acme.closer.close_window(ACME, SPAN)
    rows = acme.store.month(ACME, SPAN).rows
    since = T0 + 35 * MINUTE
    assert [row.gaps for row in rows] == [
        (UsageGap(Window(since, T0 + HOUR_MS), since, 1000),),
        (UsageGap(Window(T0 + HOUR_MS, T0 + 2 * HOUR_MS), since, 1000),),
        (UsageGap(Window(T0 + 2 * HOUR_MS, T0 + 130 * MINUTE), since, 1000),),
    ]


@costly(25, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(files(), st.lists(st.integers(1, 12 * 4 - 1), min_size=1, max_size=4, unique=True))
async def test_parts_cut_at_quarters_are_the_whole(
    databases: Path,  # noqa: F811
    arriving: list[list[Row]],
    quarters: list[int],
) -> None:
    acme = vendor(databases)
    for rows in arriving:
        acme.lake.add(rows)
    await acme.closer.close_window(ACME, SPAN)
    whole = acme.store.month(ACME, SPAN)
    parts = [
        acme.store.month(ACME, part) for part in SPAN.split([SPAN.start_ms + at * QUARTER_MS for at in quarters])
    ]
    for part in parts:
        assert sum(row.milli_vcpu_ms for row in part.rows) == part.step.integral(part.window)
        assert part.step == whole.step.within(part.window)
        for row in part.rows:
            assert row.observed_ms + row.missing_ms <= row.hour.length_ms
            assert sum(gap.window.length_ms for gap in row.gaps) == row.missing_ms
    assert sum(part.observed_ms for part in parts) == whole.observed_ms
    assert sum(part.missing_ms for part in parts) == whole.missing_ms
    assert sum(part.step.integral(part.window) for part in parts) == whole.step.integral(SPAN)
    assert all(part.sealed for part in parts)


def test_an_hour_sealed_before_its_quarters_were_kept_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    """Unless it was one level, or missing, throughout: then its integers say all."""
    database = open_migrated(tmp_path / "byoc.sqlite")
    figures = {"half": (2000 * HOUR_MS, HOUR_MS, 0, 4000), "even": (4000 * HOUR_MS, HOUR_MS, 0, 4000)}
    figures |= {"gone": (0, 0, HOUR_MS, 0)}

    def seal(name: str, connection: sa.Connection) -> None:
        hour = {"organization": name, "hour_ms": T0, "revision": 1}
        told = {"sources": "[]", "reason": "watermark", "sealed_ms": T0}
        connection.execute(usage_hours.insert().values(**hour, step="[]", observed_ms=0, missing_ms=0, **told))
        integers = dict(
            zip(("milli_vcpu_ms", "observed_ms", "missing_ms", "peak_milli_vcpu"), figures[name], strict=True)
        )
        row = {"project": "prod", "cluster": "orders", "component": "query", "open_at_end": True}
        connection.execute(usage_rows.insert().values(**hour, **row, **integers))

    for name in figures:
        database.transact(partial(seal, name))
    store, quarter = UsageStore(database), Window(T0 + QUARTER_MS, T0 + 2 * QUARTER_MS)
    with pytest.raises(InvalidInput, match="before its quarters were kept"):
        store.month(OrganizationId("half"), quarter)
    [even], [gone] = (store.month(OrganizationId(name), quarter).rows for name in ("even", "gone"))
    assert (even.milli_vcpu_ms, even.observed_ms) == (4000 * QUARTER_MS, QUARTER_MS)
    assert (gone.milli_vcpu_ms, gone.missing_ms) == (0, QUARTER_MS)
    database.close()
