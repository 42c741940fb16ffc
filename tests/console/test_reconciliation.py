"""From a cluster's life in the provisioner to the gauge of the alert rules, joined as `byoc up` joins them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from console.declared import declared_clusters
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.ids import CollectorId, OrganizationId
from kernel.log import Record
from kernel.log.memory import MemoryLog
from kernel.window import HOUR_MS, Window, hour_of
from metering.record import LIVE_TOPIC, decode_batch, decode_header
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.reconciler import Reconciler
from metering.usage.reconciliation import DeclaredCluster, Difference
from metering.usage.sealing import HourToSeal
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from provisioner.api import list_transitions
from tests.provisioner.world import ACTOR, CLUSTER, ORGANIZATION, PROJECT, World, make_world, spec


@dataclass(frozen=True)
class Declared:
    database: Database

    def declared(self, organization: OrganizationId) -> Sequence[DeclaredCluster]:
        return declared_clusters(self.database.read(lambda one: list_transitions(one, organization)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(sqlite_url(tmp_path / "byoc.sqlite"))
    migrate(database)
    made = await make_world(database)
    yield made
    await made.provisioner.stop()
    database.close()


def scraped(world: World, hour: Window, points: Sequence[tuple[int, int]]) -> None:
    """Seal the hour as collectors saw it: (ms, milli-vCPU), each level until the next."""
    kept = [*points, (hour.end_ms, 0)]
    spans = [(level, start, end) for (start, level), (end, _) in pairwise(kept)]
    seen = ComponentHour(
        component=Component(PROJECT, CLUSTER, "query"),
        collector=CollectorId("col-a"),
        milli_vcpu_ms=sum(level * (end - start) for level, start, end in spans),
        observed_ms=sum(end - start for level, start, end in spans if level),
        missing_ms=0,
        peak_milli_vcpu=max(level for level, _, _ in spans),
        open_at_end=True,
    )
    files = ("a.parquet " + "0" * 64,)
    hour_to_seal = HourToSeal(ORGANIZATION, hour, (seen,), kept, files, "a" * 64, 1, "watermark")
    UsageStore(world.database).seal([hour_to_seal], world.clock.now_ms())


async def test_a_life_that_was_scraped_as_declared_is_reconciled_and_another_counted(world: World) -> None:
    await world.create("2cu")
    created = world.clock.now_ms()
    await world.clock.advance(600)
    await world.finish(await world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR))
    grown = world.clock.now_ms()
    first = hour_of(created)
    await world.clock.advance((first.end_ms + HOUR_MS - grown) / 1000)
    scraped(world, first, [(created + 9_000, 2000), (grown - 4_000, 0), (grown + 11_000, 4000)])
    second = hour_of(first.end_ms)
    scraped(world, second, [(second.start_ms, 5000)])

    reconciler = Reconciler(world.database, Declared(world.database), UsageSettings(), world.clock)
    found = reconciler.reconcile(ORGANIZATION, Window(first.start_ms, second.end_ms))
    assert [(one.hour, one.difference) for one in found.hours] == [(first, None), (second, Difference.MORE)]
    assert found.hours[1].outside == 1000 * HOUR_MS

    log = MemoryLog(world.clock)
    await log.ensure_topics({LIVE_TOPIC: 1})
    assert await reconciler.publish(await log.writer()) == 1
    await world.clock.advance(25 * 3600)
    assert await reconciler.publish(await log.writer()) == 0  # found a day ago: it stays on the report alone
    reader = await log.reader("test", [LIVE_TOPIC])
    [stored] = await reader.poll(10, 1.0)
    header, batch = decode_header(Record(stored.key, stored.value, stored.headers)), decode_batch(stored.value)
    assert (header.tenant.organization, header.tenant.project, header.collector) == (
        ORGANIZATION,
        "vendor",
        "vendor-usage",
    )
    assert batch.values.tolist() == [1.0]
