"""Closing hours from files that arrive late, in any order: the end is the same as if all had been on time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from console.migrate import migrate
from kernel.clock import VirtualClock, from_ms
from kernel.database import Database, sqlite_url
from kernel.ids import OrganizationId
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.scan import PlacedSamples
from metering.lake.steady import RowRanges
from metering.usage.closer import HourCloser
from metering.usage.meter import GaugeMeter
from metering.usage.reading import GaugeReading
from metering.usage.rows import UsageRow
from metering.usage.sample_files import SampleFile, SampleFiles
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.effort import costly
from tests.usage.months import ACME
from tests.usage.scrapes import STALE, Row, gauge, lake_table, reading, scrape

T0 = 1_780_272_000_000 - 6 * HOUR_MS  # 18:00, so that the span crosses a UTC midnight
MINUTE = 60_000
NOW = T0 + 3 * DAY_MS
SPAN = Window(T0, T0 + 12 * HOUR_MS)
NEVER_LATE = UsageSettings(close_deadline_seconds=0)
NUMBERS = count()  # of databases


@dataclass
class Lake:
    """Files in memory, with the same promises as the lake's."""

    arrived: list[tuple[SampleFile, list[Row]]] = field(default_factory=list)
    watermark_ms: int | None = None
    meanwhile: Callable[[], None] = lambda: None  # what happens right after the files were listed

    def add(self, rows: list[Row]) -> None:
        name = f"samples-{len(self.arrived):04d}.parquet"
        times = [row.at_ms for row in rows]
        digest = sha256(repr(rows).encode()).hexdigest()
        self.arrived.append((SampleFile(name, digest, min(times), max(times)), rows))

    async def organizations(self) -> Sequence[OrganizationId]:
        return [ACME]

    async def files(self, organization: OrganizationId, window: Window) -> SampleFiles:
        listed = [file for file, _ in self.arrived if organization == ACME]
        found = [file for file in listed if file.first_ms < window.end_ms and file.last_ms >= window.start_ms]
        listing = SampleFiles(len(self.arrived), found)
        self.meanwhile()
        return listing

    async def gauges(
        self,
        organization: OrganizationId,
        window: Window,
        meter: GaugeMeter,
        limit_ms: int,
        snapshot_id: int | None,
    ) -> GaugeReading:
        rows = [row for _, listed in self.arrived[:snapshot_id] for row in listed if organization == ACME]
        return reading([row for row in rows if row.at_ms in window], limit_ms, files=2, meter=meter)

    async def scan(
        self, organization: OrganizationId, window: Window, names: Sequence[str], snapshot_id: int | None
    ) -> PlacedSamples:
        rows = [row for _, listed in self.arrived[:snapshot_id] for row in listed if organization == ACME]
        found = lake_table(row for row in rows if row.at_ms in window and dict(row.labels)["__name__"] in names)
        return PlacedSamples(found, found.slice(0, 0), RowRanges.joined([]))

    async def watermark(self, organization: OrganizationId) -> int | None:
        return self.watermark_ms


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closer")
    database = Database(sqlite_url(folder / "empty.sqlite"))
    migrate(database)
    database.close()
    return folder


@dataclass
class Vendor:
    lake: Lake
    store: UsageStore
    closer: HourCloser

    def figures(self) -> list[UsageRow]:
        """The rows, without what tells how they came about."""
        return [replace(row, revision=0, sources=()) for row in self.store.month(ACME, SPAN).rows]


def vendor(databases: Path, usage: UsageSettings = NEVER_LATE) -> Vendor:
    path = databases / f"{next(NUMBERS)}.sqlite"
    path.write_bytes((databases / "empty.sqlite").read_bytes())
    store, lake = UsageStore(Database(sqlite_url(path))), Lake()
    return Vendor(lake, store, HourCloser(lake, store, usage, VirtualClock(from_ms(NOW)), CollectorRegistry()))


def minutes(
    first: int, last: int, vcpu: float = 4.0, cluster: str = "orders", collector: str = "col-a"
) -> list[Row]:
    rows = []
    for minute in range(first, last + 1):
        at = T0 + minute * MINUTE
        rows += [gauge(at, vcpu, cluster=cluster, collector=collector), scrape(at, collector=collector)]
    return rows


async def test_an_hour_closes_at_the_watermark_and_not_before(databases: Path) -> None:
    """
    18:00-19:59  samples
    20:00        the collector says: complete through 19:30; later through 20:00
    """
    acme = vendor(databases, UsageSettings(close_deadline_seconds=100 * 24 * 3600))
    acme.lake.add(minutes(0, 119))
    assert await acme.closer.close_due(ACME) == 0
    acme.lake.watermark_ms = T0 + 90 * MINUTE
    assert await acme.closer.close_due(ACME) == 1
    acme.lake.watermark_ms = T0 + 120 * MINUTE
    assert await acme.closer.close_due(ACME) == 1
    assert [row.observed_ms for row in acme.figures()] == [HOUR_MS, HOUR_MS]


async def test_a_late_file_revises_its_hours_and_what_followed_from_them(databases: Path) -> None:
    """
    18:00-18:59  seen, then nothing: 19:04 on is missing, to the end of the span
    later        19:00-19:09 arrives, and it ends there: absent from then on
    """
    acme = vendor(databases)
    acme.lake.add(minutes(0, 59))
    first = await acme.closer.close_window(ACME, SPAN)
    assert first == 12
    assert [row.missing_ms for row in acme.figures()][1:] == [56 * MINUTE, *[HOUR_MS] * 10]
    acme.lake.add([*minutes(60, 69), gauge(T0 + 70 * MINUTE, STALE), scrape(T0 + 70 * MINUTE)])
    assert await acme.closer.close_window(ACME, SPAN) == 11
    assert [(row.observed_ms, row.missing_ms) for row in acme.figures()][1:] == [(10 * MINUTE, 0)]
    assert await acme.closer.close_window(ACME, SPAN) == 0


async def test_what_comes_between_listing_and_reading_is_another_revision_with_its_file(databases: Path) -> None:
    """Else an hour had samples of a file that is not among its sources, and no proof of it held."""
    acme = vendor(databases)
    acme.lake.add(minutes(0, 59))

    def arrive() -> None:
        acme.lake.meanwhile = lambda: None
        acme.lake.add(minutes(60, 119))

    acme.lake.meanwhile = arrive
    second = Window(T0 + HOUR_MS, T0 + 2 * HOUR_MS)
    await acme.closer.close_window(ACME, second)
    [row] = acme.store.month(ACME, second).rows
    assert (row.observed_ms, len(row.sources)) == (4 * MINUTE, 1)
    await acme.closer.close_window(ACME, second)
    [row] = acme.store.month(ACME, second).rows
    assert (row.observed_ms, len(row.sources), row.revision) == (HOUR_MS, 2, 2)


async def test_an_hour_is_not_closed_before_the_files_that_make_it_complete_are_read(databases: Path) -> None:
    acme = vendor(databases, UsageSettings(close_deadline_seconds=100 * 24 * 3600))
    acme.lake.add(minutes(0, 59))
    acme.lake.watermark_ms = T0 + HOUR_MS

    def arrive() -> None:
        acme.lake.meanwhile = lambda: None
        acme.lake.add(minutes(60, 119))
        acme.lake.watermark_ms = T0 + 2 * HOUR_MS

    acme.lake.meanwhile = arrive
    assert await acme.closer.close_due(ACME) == 1
    assert await acme.closer.close_due(ACME) == 1
    assert [(row.observed_ms, row.revision) for row in acme.store.month(ACME, SPAN).rows] == [(HOUR_MS, 1)] * 2


async def test_a_revision_reaches_the_hours_after_the_window_that_was_closed(databases: Path) -> None:
    """
    18:00-18:59  seen, then nothing: missing to the end of the span, twelve hours closed
    later        19:00 it ended; only the hours before midnight are closed again (a month before its invoice)
    later        all hours: those after midnight learn that it had ended, although no file touches them
    """
    acme = vendor(databases)
    acme.lake.add(minutes(0, 59))
    await acme.closer.close_window(ACME, SPAN)
    acme.lake.add([gauge(T0 + 60 * MINUTE, STALE), scrape(T0 + 60 * MINUTE)])
    assert await acme.closer.close_window(ACME, Window(T0, T0 + 6 * HOUR_MS)) == 5
    assert await acme.closer.close_window(ACME, SPAN) == 6
    assert sum(row.missing_ms for row in acme.figures()) == 0


async def test_the_file_that_carries_in_is_among_the_sources_of_its_hour(databases: Path) -> None:
    acme = vendor(databases)
    acme.lake.add(minutes(58, 59))
    acme.lake.add(minutes(61, 70))
    await acme.closer.close_window(ACME, Window(T0 + HOUR_MS, T0 + 2 * HOUR_MS))
    (row,) = acme.store.month(ACME, Window(T0 + HOUR_MS, T0 + 2 * HOUR_MS)).rows
    assert [source.split()[0] for source in row.sources] == ["samples-0000.parquet", "samples-0001.parquet"]


@st.composite
def files(draw: st.DrawFn) -> list[list[Row]]:
    """Files of a few stretches; some end in a stale marker."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, 10 * 60))
        last = first + draw(st.integers(0, 100))
        cluster, collector = draw(st.sampled_from(["orders", "search"])), draw(st.sampled_from(["col-a", "col-b"]))
        rows = minutes(first, last, draw(st.sampled_from([1.0, 4.0])), cluster, collector)
        if draw(st.booleans()):
            at = T0 + (last + 1) * MINUTE
            rows += [gauge(at, STALE, cluster=cluster, collector=collector), scrape(at, collector=collector)]
        found.append(rows)
    return found


@costly(25, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(files(), st.randoms(use_true_random=False))
async def test_late_equals_on_time(databases: Path, arriving: list[list[Row]], random: object) -> None:
    on_time, late = vendor(databases), vendor(databases)
    for rows in arriving:
        on_time.lake.add(rows)
    await on_time.closer.close_window(ACME, SPAN)
    shuffled = arriving[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [Window(SPAN.start_ms, T0 + 6 * HOUR_MS), Window(T0 + 6 * HOUR_MS, SPAN.end_ms), SPAN]
    for rows in shuffled:
        late.lake.add(rows)
        await late.closer.close_window(ACME, random.choice(parts))  # type: ignore[attr-defined]
    await late.closer.close_window(ACME, SPAN)
    assert await late.closer.close_window(ACME, SPAN) == 0
    assert late.figures() == on_time.figures()
    assert late.store.month(ACME, SPAN).step == on_time.store.month(ACME, SPAN).step


async def test_a_look_where_nothing_came_asks_the_store_nothing(
    databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = vendor(databases)
    acme.lake.add(minutes(0, 119))
    assert await acme.closer.close_due(ACME) > 0
    assert await acme.closer.close_due(ACME) == 0
    asked: list[Window] = []
    real = acme.store.checked

    def checked(organization: OrganizationId, window: Window) -> dict[int, str]:
        asked.append(window)
        return real(organization, window)

    monkeypatch.setattr(acme.store, "checked", checked)
    assert await acme.closer.close_due(ACME) == 0
    assert not asked
    acme.lake.add(minutes(30, 31, cluster="search"))
    assert await acme.closer.close_due(ACME) > 0
    assert asked, "a file came"
