"""The facade of alerts: evaluate rules on the live topic, tell receivers."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from alerts.dispatcher import Dispatcher
from alerts.metrics import AlertMetrics
from alerts.rule import RuleGroup
from alerts.rulefile import load_rule_files
from alerts.ruler import Ruler, RulerParts
from alerts.settings import DEFAULT_RULES, AlertSettings, ReceiverSettings
from kernel.clock import Clock
from kernel.database import Database
from kernel.deployment import Deployment
from kernel.log import Log
from kernel.service import Service

__all__ = ["AlertService", "AlertSettings", "ReceiverSettings", "load_groups"]


def load_groups(settings: AlertSettings) -> tuple[RuleGroup, ...]:
    """The rule groups that the settings name. Raises InvalidInput with every finding of every file."""
    paths = [*([DEFAULT_RULES] if settings.builtin_rules else []), *settings.rule_files]
    return load_rule_files(paths, settings.retention_seconds * 1000)


class AlertService:
    """Evaluation and delivery in one process, on a migrated database.

    Raises InvalidInput when made with a rule file or a secret that is refused.
    """

    def __init__(
        self,
        database: Database,
        log: Log,
        clock: Clock,
        settings: AlertSettings,
        registry: CollectorRegistry | None = None,
    ) -> None:
        metrics = AlertMetrics(registry if registry is not None else CollectorRegistry())
        self.dispatcher = Dispatcher(database, clock, settings, metrics)
        parts = RulerParts(database, log, clock, settings, load_groups(settings), metrics)
        self.ruler = Ruler(parts, self.dispatcher.wake)

    @classmethod
    async def open(cls, deployment: Deployment, registry: CollectorRegistry | None = None) -> AlertService:
        """On what a deployment has, with its section `alerts`. Raises InvalidInput, LogUnavailable."""
        settings = deployment.section("alerts", AlertSettings)
        return cls(deployment.database(), await deployment.log(), deployment.clock, settings, registry)

    def attach(self, service: Service) -> None:
        """Run as tasks of a service, which is ready once the head has read the log."""
        service.checks["alerts"] = self.ruler.not_ready
        service.spawn("alerts.ruler", self.ruler.run())
        service.spawn("alerts.dispatcher", self.dispatcher.run())

    async def run(self) -> None:
        """Both until cancelled, for callers without a service runner."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ruler.run(), name="alerts.ruler")
            group.create_task(self.dispatcher.run(), name="alerts.dispatcher")
