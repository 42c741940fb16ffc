"""Meters from files to billed quantities: closed, revised, read by group and window, on a real database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from console.migrate import migrate
from kernel.clock import VirtualClock, from_ms
from kernel.database import Database, sqlite_url
from kernel.errors import Conflict, InvalidInput, NotFound
from kernel.ids import CollectorId, OrganizationId
from kernel.window import HOUR_MS, Window
from metering.meters.catalogue import Catalogue, parse_catalogue
from metering.meters.closer import MeterCloser
from metering.meters.models import meter_catalogues, meter_hours, meter_rows
from metering.meters.reading import read_meter
from metering.meters.store import MeterStore
from metering.record import canonical_labels, series_id
from metering.usage.closer import HourCloser
from metering.usage.model import NOT_BILLED, GapRule, MeterRequest, MeterRow, MeterUsage
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.effort import costly
from tests.usage.months import ACME
from tests.usage.scrapes import STALE, TARGET, TENANT, Row, gauge, scrape
from tests.usage.test_closer import MINUTE, NOW, SPAN, T0, Lake

CATALOGUE = """
catalogue: test
version: 1
meters:
  - {meter: licence-vcpu, description: x, kind: gauge-integral, unit: vCPU-hours, scale: 1000, per: hour,
     series: [{metric: byoc_component_allocated_vcpu, where: {component: [query, milvus, index]}}],
     group_by: [component], identity: [cluster, component]}
  - {meter: searches, description: x, kind: counter-increase, unit: searches, series: [{metric: searches_total}]}
  - {meter: rows-peak, description: x, kind: peak, unit: rows, series: [{metric: rows}]}
  - {meter: rows-latest, description: x, kind: latest, unit: rows, series: [{metric: rows}]}
  - {meter: rows-p50, description: x, kind: percentile, percentile: 50, denominator: observed, unit: rows,
     series: [{metric: rows}]}
  - {meter: rows-p50-of-all, description: x, kind: percentile, percentile: 50, denominator: window, unit: rows,
     series: [{metric: rows}]}
  - {meter: users, description: x, kind: unique-count, count: user, unit: users, series: [{metric: seen}]}
"""
NOT_LATE = UsageSettings(close_deadline_seconds=0)


NUMBERS = count()  # of databases


@dataclass
class LakeWithStarts(Lake):
    """The lake of the closer's tests, and when counters began: (row, start ms, seen ms)."""

    begun: list[tuple[Row, int]] = field(default_factory=list)

    async def starts(self, organization: OrganizationId, window: Window) -> pa.Table:
        told = [(row, start) for row, start in self.begun if row.at_ms < window.end_ms]
        ids = [series_id(TENANT, CollectorId(row.collector), canonical_labels(row.labels)) for row, _ in told]
        return pa.table(
            {
                "series_id": pa.array(ids, pa.binary(16)),
                "start_ms": pa.array([start for _, start in told], pa.int64()),
                "seen_ms": pa.array([row.at_ms for row, _ in told], pa.int64()),
            }
        )


@dataclass
class Vendor:
    lake: LakeWithStarts
    database: Database
    store: UsageStore
    closer: HourCloser

    def usage(
        self, meter: str, window: Window = SPAN, group_by: str | None = None, gaps: GapRule = NOT_BILLED
    ) -> MeterUsage:
        """Of every meter, window and gap that is looked at here: what is kept of it is what was read."""
        request = MeterRequest(ACME, meter, window, group_by, gaps)
        read = self.database.read(lambda connection: read_meter(connection, request))
        keeping = UsageStore(self.database, keeping=True)
        for _ in range(2):
            kept = keeping.meter(ACME, meter, window, group_by, gaps)
            assert (kept, kept.leaves.root, len(kept.rows)) == (read, read.leaves.root, len(read.rows))
        return kept

    def quantity(self, meter: str, window: Window = SPAN) -> Fraction:
        return sum((part.quantity for part in self.usage(meter, window).parts), Fraction(0))

    def figures(self) -> list[object]:
        """Everything that is billed, without what tells how it came about."""
        found: list[object] = []
        for meter in parse_catalogue(CATALOGUE, "test").meters:
            usage = self.usage(meter.meter)
            found += [meter.meter, usage.parts, usage.observed_ms, usage.missing_ms, usage.sealed]
            found += [(row.cluster, row.dimensions, row.hour, row.quantity, row.missing_ms) for row in usage.rows]
        return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meters") / "empty.sqlite"
    database = Database(sqlite_url(path))
    migrate(database)
    database.close()
    return path


def vendor(empty: Path, catalogue: Catalogue | None = None, usage: UsageSettings = NOT_LATE) -> Vendor:
    path = empty.with_name(f"{next(NUMBERS)}.sqlite")
    path.write_bytes(empty.read_bytes())
    database, lake, clock = Database(sqlite_url(path)), LakeWithStarts(), VirtualClock(from_ms(NOW))
    store = UsageStore(database)
    closer = meter_closer(lake, database, catalogue)
    return Vendor(lake, database, store, HourCloser(lake, store, usage, clock, CollectorRegistry(), closer))


def meter_closer(lake: LakeWithStarts, database: Database, catalogue: Catalogue | None = None) -> MeterCloser:
    chosen = catalogue or parse_catalogue(CATALOGUE, "test")
    return MeterCloser(lake, MeterStore(database), chosen, VirtualClock(from_ms(NOW)), 300_000)


def sample(metric: str, minute: float, value: float, collector: str = "col-a", **labels: str) -> Row:
    pairs = (("__name__", metric), ("cluster", labels.pop("cluster", "orders")), *sorted(labels.items()), *TARGET)
    return Row(T0 + round(minute * MINUTE), value, pairs, collector)


def counted(*samples: tuple[float, float], **labels: str) -> list[Row]:
    return [sample("searches_total", minute, value, **labels) for minute, value in samples]


async def test_a_counter_counts_across_hours_gaps_and_resets_and_hours_telescope(empty: Path) -> None:
    """
    18:10  100      the first: counting begins here
    18:50  150      +50 in the first hour
    20:20  170      a silent hour between: +20, in the hour of the sample that shows it
    20:30    5      it restarted: +5
    """
    acme = vendor(empty)
    acme.lake.add(counted((10, 100), (50, 150), (140, 170), (150, 5)))
    await acme.closer.close_window(ACME, SPAN)
    (part,) = acme.usage("searches").parts
    assert [int(each) for each in part.hourly[:4]] == [50, 0, 25, 0]
    assert part.quantity == 75 == sum(part.hourly)


async def test_the_digest_is_over_the_rows_as_sorted_json(empty: Path) -> None:
    """Written by hand for speed; what issued invoices state must not change."""
    per_user = CATALOGUE.replace("{metric: searches_total}]", "{metric: searches_total}], group_by: [user]")
    acme = vendor(empty, parse_catalogue(per_user, "test"))
    calls = [counted((10, 1), (50 + 60 * hour, 5), user=user) for hour, user in enumerate(('quo"te', "größe", "b"))]
    acme.lake.add([row for each in calls for row in each])
    await acme.closer.close_window(ACME, SPAN)
    usage = acme.usage("searches")
    assert len(usage.rows) >= 3
    lines = sorted(json.dumps(_as_digested(row), separators=(",", ":")) for row in usage.rows)
    text = f"acme\tsearches\t{usage.catalogue}\n" + "".join(f"{line}\n" for line in lines)
    assert usage.revision_digest == sha256(text.encode()).hexdigest()


def _as_digested(row: MeterRow) -> dict[str, object]:
    return {
        "project": row.project,
        "cluster": row.cluster,
        "dimensions": row.dimensions,
        "hour": [row.hour.start_ms, row.hour.end_ms],
        "revision": row.revision,
        "quantity": str(row.quantity),
        "observed_ms": row.observed_ms,
        "missing_ms": row.missing_ms,
        "estimated_ms": row.estimated_ms,
        "sources": row.sources,
    }


@pytest.mark.services
async def test_meters_are_sealed_revised_and_read_on_postgresql(migrated_postgres_url: str) -> None:
    database = Database(migrated_postgres_url)
    migrate(database)
    lake, store = LakeWithStarts(), UsageStore(database)
    clock, meters = VirtualClock(from_ms(NOW)), meter_closer(lake, database)
    acme = Vendor(lake, database, store, HourCloser(lake, store, NOT_LATE, clock, CollectorRegistry(), meters))
    lake.add([*counted((10, 100), (50, 150)), sample("rows", 3, 2.0**62), sample("seen", 1, 1, user="é")])
    await acme.closer.close_window(ACME, SPAN)
    lake.add(counted((70, 180)))
    await acme.closer.close_window(ACME, SPAN)
    assert acme.quantity("searches") == 80
    assert acme.quantity("rows-peak") == 4_611_686_018_427_388_000  # the shortest decimal form of that float
    assert acme.quantity("users") == 1
    assert max(row.revision for row in revisions(acme)) == 2
    database.close()


async def test_a_counter_known_to_begin_then_counts_from_zero(empty: Path) -> None:
    acme = vendor(empty)
    rows = counted((10, 100), (50, 150))
    acme.lake.add(rows)
    acme.lake.begun.append((rows[0], T0 + MINUTE))
    await acme.closer.close_window(ACME, SPAN)
    assert acme.quantity("searches") == 150


async def test_two_collectors_of_one_counter_are_not_added(empty: Path) -> None:
    acme = vendor(empty)
    seen = [(minute, minute * 2.0) for minute in range(60)]
    acme.lake.add(counted(*seen))
    acme.lake.add([*counted(*seen[:40], collector="col-b"), *counted(*seen, node="2")])
    await acme.closer.close_window(ACME, SPAN)
    assert acme.quantity("searches") == 2 * 118


async def test_the_licence_meter_of_the_catalogue_is_the_licence(empty: Path) -> None:
    """Two ways to one figure: the licence's own rows, and the catalogue's meter over the same samples."""
    acme = vendor(empty)
    for minute in range(200):
        at = T0 + minute * MINUTE
        acme.lake.add(
            [gauge(at, 4.0 + minute % 3), gauge(at, 2.5, pod="b"), gauge(at, 1.0, component="index"), scrape(at)]
        )
    acme.lake.add([gauge(T0 + 200 * MINUTE, STALE, component="index"), scrape(T0 + 200 * MINUTE)])
    await acme.closer.close_window(ACME, SPAN)
    month, usage = acme.store.month(ACME, SPAN), acme.usage("licence-vcpu")
    ours = {(row.hour.start_ms, dict(row.dimensions)["component"]): row for row in usage.rows}
    assert len(ours) == len(month.rows)
    for row in month.rows:
        mine = ours[row.hour.start_ms, row.component]
        assert (mine.quantity, mine.observed_ms, mine.missing_ms) == (
            row.milli_vcpu_ms,
            row.observed_ms,
            row.missing_ms,
        )
    assert sum(part.quantity for part in usage.parts) == Fraction(month.step.integral(SPAN), 1000 * HOUR_MS)
    assert usage.sealed


async def test_peak_latest_and_percentile_are_of_the_sum_at_one_moment(empty: Path) -> None:
    """
    18:00-18:10  orders 10
    18:05-18:15  carts  30       so 10, then 40 from 18:05, then 30 from 18:10 to 18:15
    """
    acme = vendor(empty)
    acme.lake.add([sample("rows", minute, 10) for minute in (0, 5)])
    acme.lake.add([sample("rows", minute, 30, cluster="carts") for minute in (5, 10)])
    await acme.closer.close_window(ACME, SPAN)
    assert acme.quantity("rows-peak") == 40
    assert [(part.group, int(part.quantity)) for part in acme.usage("rows-peak", group_by="cluster").parts] == [
        ("carts", 30),
        ("orders", 10),
    ]
    assert acme.quantity("rows-latest") == 30
    assert acme.quantity("rows-p50") == 30  # of 10, 40, 30
    assert acme.quantity("rows-p50-of-all") == 0  # of 144 slots, 141 without data


async def test_distinct_values_are_counted_once_in_a_window(empty: Path) -> None:
    acme = vendor(empty)
    acme.lake.add(
        [sample("seen", minute, 1, user=user) for minute, user in [(1, "a"), (2, "b"), (70, "a"), (71, "c")]]
    )
    await acme.closer.close_window(ACME, SPAN)
    assert acme.quantity("users") == 3
    assert acme.quantity("users", Window(T0, T0 + HOUR_MS)) == 2
    assert acme.quantity("users", Window(T0 + HOUR_MS, T0 + 2 * HOUR_MS)) == 2


async def test_a_window_may_begin_inside_a_utc_hour_and_the_parts_are_the_whole(empty: Path) -> None:
    """Months of Asia/Kolkata begin at half past an hour."""
    acme = vendor(empty)
    acme.lake.add(
        [row for minute in range(120) for row in (gauge(T0 + minute * MINUTE, 3.0), scrape(T0 + minute * MINUTE))]
    )
    acme.lake.add(counted(*[(minute, minute * 7.0) for minute in range(120)]))
    await acme.closer.close_window(ACME, SPAN)
    cut = T0 + HOUR_MS // 2
    for meter in ("licence-vcpu", "searches"):
        before, after = acme.quantity(meter, Window(T0, cut)), acme.quantity(meter, Window(cut, SPAN.end_ms))
        assert before + after == acme.quantity(meter)
        assert before > 0
    assert acme.quantity("licence-vcpu", Window(T0, cut)) == Fraction(3, 2)
    assert acme.quantity("searches", Window(T0, cut)) == 29 * 7
    with pytest.raises(InvalidInput, match="quarters"):
        acme.usage("searches", Window(T0 + 1, cut))


async def test_gaps_of_a_gauge_are_filled_when_they_are_read_and_a_counter_needs_none(empty: Path) -> None:
    """
    18:00-18:59  3 vCPU, held to 19:04; then nothing for two hours; 21:04-21:59 at 5 vCPU
    """
    acme = vendor(empty)
    acme.lake.add([row for at in range(60) for row in (gauge(T0 + at * MINUTE, 3.0), scrape(T0 + at * MINUTE))])
    acme.lake.add(
        [row for at in range(184, 240) for row in (gauge(T0 + at * MINUTE, 5.0), scrape(T0 + at * MINUTE))]
    )
    acme.lake.add(counted((0, 0.0), (239, 70.0)))
    four = Window(T0, T0 + 4 * HOUR_MS)
    await acme.closer.close_window(ACME, four)
    rule, plain = GapRule("hold-last", 24 * HOUR_MS), acme.usage("licence-vcpu", four)
    assert (plain.estimated_ms, plain.missing_ms) == (0, 120 * MINUTE)
    held = acme.usage("licence-vcpu", four, None, rule)
    assert held.parts[0].quantity == plain.parts[0].quantity + 2 * 3
    assert (held.estimated_ms, held.missing_ms) == (120 * MINUTE, 120 * MINUTE)
    assert held.revision_digest != plain.revision_digest
    split = [Window(T0, T0 + HOUR_MS * 5 // 2), Window(T0 + HOUR_MS * 5 // 2, four.end_ms)]
    parts = [acme.usage("licence-vcpu", part, None, rule).parts[0].quantity for part in split]
    assert sum(parts) == held.parts[0].quantity
    short = acme.usage("licence-vcpu", split[1], None, GapRule("hold-last", HOUR_MS))
    assert short.estimated_ms == 0, "its hour was over before the window began"
    estimated = acme.usage("licence-vcpu", four, None, GapRule("estimate", 24 * HOUR_MS))
    assert plain.parts[0].quantity + 2 * 3 < estimated.parts[0].quantity < plain.parts[0].quantity + 2 * 5
    searches = (acme.usage("searches", four, None, each) for each in (NOT_BILLED, rule))
    assert len({usage.parts[0].quantity for usage in searches}) == 1


async def test_an_unknown_meter_is_not_found(empty: Path) -> None:
    acme = vendor(empty)
    with pytest.raises(NotFound):
        acme.usage("searches")  # nothing was ever closed
    acme.lake.add(counted((1, 1)))
    await acme.closer.close_window(ACME, SPAN)
    with pytest.raises(NotFound):
        acme.usage("none-such")
    assert acme.store.meter(OrganizationId("other"), "searches", SPAN, None).parts == ()


def revisions(acme: Vendor) -> Sequence[sa.Row[tuple[object, ...]]]:
    query = sa.select(meter_hours).order_by(meter_hours.c.hour_ms)
    return acme.database.transact(lambda connection: connection.execute(query).all())


async def test_late_samples_revise_the_hours_they_touch_and_closing_again_writes_nothing(empty: Path) -> None:
    acme = vendor(empty)
    acme.lake.add(counted((10, 100), (50, 150), (130, 200)))
    await acme.closer.close_window(ACME, SPAN)
    first = acme.usage("searches")
    assert len(revisions(acme)) == 12 * 7
    await acme.closer.close_window(ACME, SPAN)
    assert len(revisions(acme)) == 12 * 7
    acme.lake.add(counted((70, 180)))
    await acme.closer.close_window(ACME, SPAN)
    assert [(row.meter, row.hour_ms) for row in revisions(acme) if row.revision == 2] == [
        ("searches", T0 + HOUR_MS),
        ("searches", T0 + 2 * HOUR_MS),
    ]
    second = acme.usage("searches")
    assert [[int(each) for each in part.hourly[:3]] for part in (*first.parts, *second.parts)] == [
        [50, 0, 50],
        [50, 30, 20],
    ]
    assert [row.revision for row in second.rows][:3] == [1, 2, 2]
    assert first.revision_digest != second.revision_digest
    assert acme.store.revised_since(ACME, SPAN, NOW - 1)
    assert not acme.store.revised_since(ACME, SPAN, NOW)


ALL = [
    *counted(*[(minute, minute % 50) for minute in range(0, 400, 7)]),
    *counted(*[(minute, minute * 3) for minute in range(3, 500, 11)], node="2", collector="col-b"),
    *[sample("rows", minute, minute % 90, cluster="carts") for minute in range(0, 300, 4)],
    *[sample("seen", minute, 1, user=f"u{minute % 5}") for minute in range(0, 600, 13)],
    *[row for m in range(0, 350, 2) for row in (gauge(T0 + m * MINUTE, float(m % 9)), scrape(T0 + m * MINUTE))],
    gauge(T0 + 350 * MINUTE, STALE),
    scrape(T0 + 350 * MINUTE),
]


@pytest.fixture
async def on_time(empty: Path) -> AsyncIterator[Vendor]:
    made = vendor(empty)
    made.lake.add(ALL)
    await made.closer.close_window(ACME, SPAN)
    yield made
    made.database.close()


@costly(25, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(st.data())
async def test_order_duplicates_and_lateness_change_nothing(
    empty: Path, on_time: Vendor, data: st.DataObject
) -> None:
    late = vendor(empty)
    shuffled = data.draw(st.permutations(ALL))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ALL) - 1), max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, len(ALL)], strict=True):
        part: Sequence[Row] = [*shuffled[start:end], *shuffled[: data.draw(st.integers(0, 5))]]
        late.lake.add(list(part))
        split = T0 + data.draw(st.integers(1, 12)) * HOUR_MS
        await late.closer.close_window(ACME, Window(T0, split))
    await late.closer.close_window(ACME, SPAN)
    assert late.figures() == on_time.figures()
    late.database.close()


async def test_another_catalogue_under_the_same_version_is_refused(empty: Path) -> None:
    acme = vendor(empty)
    acme.lake.add(counted((10, 100), (50, 150)))
    await acme.closer.close_window(ACME, SPAN)
    changed = parse_catalogue(CATALOGUE.replace("unit: searches", "unit: queries"), "test")
    closer = HourCloser(
        acme.lake,
        acme.store,
        NOT_LATE,
        VirtualClock(from_ms(NOW)),
        CollectorRegistry(),
        meter_closer(acme.lake, acme.database, changed),
    )
    with pytest.raises(Conflict, match="new version"):
        await closer.close_window(ACME, SPAN)
    assert acme.quantity("searches") == 50


@pytest.mark.parametrize("table", [meter_hours, meter_rows, meter_catalogues], ids=lambda table: table.name)
async def test_sealed_meters_refuse_every_change_by_sql(empty: Path, table: sa.Table) -> None:
    acme = vendor(empty)
    acme.lake.add(counted((10, 100), (50, 150)))
    await acme.closer.close_window(ACME, SPAN)
    for change in (
        sa.delete(table),
        sa.update(table).values({"catalogue" if table is meter_hours else table.c.keys()[-1]: "x"}),
    ):
        with pytest.raises(sa.exc.DatabaseError):
            acme.database.transact(lambda connection, change=change: connection.execute(change))  # type: ignore[misc]
