"""All that one job finds its targets by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collector.discovery import static_targets
from collector.discovery.files import FileDiscovery
from collector.scrape.settings import ScrapeConfig
from collector.scrape.target import Discovered
from kernel.clock import Clock

if TYPE_CHECKING:
    from collector.discovery.http import HttpDiscovery
    from collector.discovery.kubernetes import KubernetesDiscovery


class TargetSources:
    """Files are read at each `refresh`; servers are followed by tasks that begin with the first one."""

    def __init__(self, job: ScrapeConfig, clock: Clock) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self._job = job
        self._files = FileDiscovery(job.file_sd_configs)
        self._http = _followed_by_http(job, clock)
        self._kubernetes = _followed_by_kubernetes(job, clock)

    async def refresh(self) -> list[Discovered]:
        """What is known now. Never waits for a server."""
        if not self.tasks:
            name = f"discovery.{self._job.job_name}"
            following = [one.run() for one in self._http] + [one.run() for one in self._kubernetes]
            self.tasks = [asyncio.create_task(one, name=name) for one in following]
        found = static_targets(self._job.static_configs) + await asyncio.to_thread(self._files.refresh)
        for http in self._http:
            found += http.targets
        for kubernetes in self._kubernetes:
            found += await kubernetes.targets()
        return found

    def problems(self) -> list[str]:
        """Why what is known may be old."""
        errors = [one.last_error for one in self._http] + [one.last_error for one in self._kubernetes]
        return [error for error in errors if error is not None]

    async def close(self) -> None:
        """Stop following. Idempotent."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


# Each loads a whole HTTP client, 10 MB, so only where it is asked for.


def _followed_by_http(job: ScrapeConfig, clock: Clock) -> list[HttpDiscovery]:
    if not job.http_sd_configs:
        return []
    from collector.discovery.http import HttpDiscovery

    return [HttpDiscovery(one, clock) for one in job.http_sd_configs]


def _followed_by_kubernetes(job: ScrapeConfig, clock: Clock) -> list[KubernetesDiscovery]:
    if not job.kubernetes_sd_configs:
        return []
    from collector.discovery.kubernetes import KubernetesDiscovery

    return [KubernetesDiscovery(one, clock) for one in job.kubernetes_sd_configs]
