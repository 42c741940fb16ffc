"""The vendor's alerting on a clock that the test moves: log, head, rules, database, a real receiver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from alerts import models
from alerts.api import AlertService, AlertSettings
from kernel.clock import VirtualClock
from kernel.database import Database
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import LogReader
from kernel.log.memory import MemoryLog
from metering.record import LIVE_TOPIC, BatchHeader, Lane, encode_record, make_batch
from tests.alerts.receiver import SECRET, Receiver

ORG_A = Tenant(OrganizationId("org-a"), ProjectId("project-1"))
ORG_B = Tenant(OrganizationId("org-b"), ProjectId("project-1"))
COLLECTOR = CollectorId("collector-1")
START = datetime(2026, 1, 1, tzinfo=UTC)

RULES = """
groups:
  - name: test
    interval: 1s
    rules:
      - alert: Hot
        expr: temperature > 30
        for: {for_}
        keep_firing_for: {keep}
        labels: {{severity: critical}}
        annotations: {{summary: "{{{{ $labels.room }}}} is at {{{{ $value }}}}"}}
"""


class World:
    """Everything but time is real. `run` moves the clock in steps and does in each what the service does."""

    def __init__(self, database: Database, folder: Path, rules: str, receivers: Sequence[dict[str, Any]]) -> None:
        self.clock = VirtualClock(START)
        self.log = MemoryLog(self.clock)
        self.database = database
        path = folder / "rules.yaml"
        path.write_text(rules)
        self.settings = AlertSettings.model_validate(
            {
                "rule_files": [path],
                "builtin_rules": False,
                "receivers": receivers,
                "allow_private_receivers": True,
                "watermark_wait_seconds": 5,
            }
        )
        self.service: AlertService
        self._reader: LogReader
        self._writer: Any = None

    async def start(self) -> None:
        """Start, or start again: what the last service knew in memory is gone."""
        await self.log.ensure_topics({LIVE_TOPIC: 2})
        self._writer = self._writer or await self.log.writer()
        self.service = AlertService(self.database, self.log, self.clock, self.settings)
        await self.service.ruler.restore()
        since_ms = self.clock.now_ms() - self.settings.retention_seconds * 1000
        self._reader = await self.log.reader("alerts", [LIVE_TOPIC], since_ms=since_ms)

    async def stop(self) -> None:
        await self.service.dispatcher.close()
        await self._reader.close()

    async def send(
        self,
        value: float,
        room: str = "attic",
        tenant: Tenant = ORG_A,
        *,
        metric: str = "temperature",
        complete: bool = True,
        collector: CollectorId = COLLECTOR,
    ) -> None:
        """One sample now, as the gateway would file it."""
        now_ms = self.clock.now_ms()
        labels = (("__name__", metric), ("organization", tenant.organization), ("room", room))
        header = BatchHeader(
            tenant, collector, Lane.BILLING, now_ms, "", complete_through_ms=now_ms if complete else None
        )
        await self._writer.append(LIVE_TOPIC, [encode_record(header, make_batch([(labels, now_ms, value)]))])

    async def turn(self) -> None:
        """What the service does between two sleeps."""
        records = await self._reader.poll(1000, 0)
        self.service.ruler.ingest(records)
        await self.service.ruler.tick()
        await self.deliver()

    async def deliver(self) -> None:
        for receiver in self.settings.receivers:
            while await self.service.dispatcher.send_next(receiver.name):
                pass

    async def run(self, seconds: int, value: float | None = None, *, every: int = 1, **labels: Any) -> None:
        """Step by step of `every` seconds, with a sample in each when there is a value."""
        for _ in range(seconds // every):
            await self.clock.advance(every)
            if value is not None:
                await self.send(value, **labels)
            await self.turn()

    def rows(self, table: sa.Table) -> list[Any]:
        return self.database.transact(lambda connection: list(connection.execute(sa.select(table)).mappings()))

    def states(self) -> list[str]:
        return sorted(row["state"] for row in self.rows(models.instances))


def receiver_settings(receiver: Receiver, name: str = "oncall", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": receiver.url, "secret": SECRET, **more}


def rules(for_: str = "0s", keep: str = "0s") -> str:
    return RULES.format(for_=for_, keep=keep)
