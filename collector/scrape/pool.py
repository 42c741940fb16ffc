"""All targets of all jobs: starts a loop for what discovery found, ends the loops of what is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from collector.discovery.sources import TargetSources
from collector.exposition.protobuf import ProtobufReader
from collector.labels import make_labels
from collector.policy import Policy
from collector.scrape.context import ScrapeContext
from collector.scrape.fetch import Fetcher
from collector.scrape.loop import TargetLoop
from collector.scrape.protocols import Protocols
from collector.scrape.series import SeriesRules
from collector.scrape.settings import GlobalSettings, ScrapeConfig
from collector.scrape.state import TargetState
from collector.scrape.target import Found, Target, find_targets
from kernel.logs import logger

_log = logger("scrape")
FOLLOW_SECONDS = 5.0  # until what a server said becomes a scrape; Prometheus' bound


class JobPool:
    """The targets of one job."""

    def __init__(self, job: ScrapeConfig, defaults: GlobalSettings, policy: Policy, context: ScrapeContext) -> None:
        self.job = job
        self.loops: dict[Target, tuple[TargetLoop, asyncio.Task[None]]] = {}
        self.found = Found()
        self._defaults = defaults
        self._policy = policy
        self._context = context
        self._protocols = Protocols.of(job, defaults)
        self._fetcher = Fetcher(job, self._protocols.accept)
        self._sources = TargetSources(job, context.clock)

    def refresh_intervals(self) -> list[float]:
        """Seconds after which it pays to look for targets again."""
        intervals = [one.refresh_interval for one in self.job.file_sd_configs]
        followed = [min(one.refresh_interval, FOLLOW_SECONDS) for one in self.job.http_sd_configs]
        return intervals + followed + [FOLLOW_SECONDS] * len(self.job.kubernetes_sd_configs)

    def is_as(self, job: ScrapeConfig, defaults: GlobalSettings, context: ScrapeContext) -> bool:
        """Whether this is the pool that these settings ask for."""
        own = self.job, self.job.timing(self._defaults), self._defaults.external_labels, self._protocols
        wanted = job, job.timing(defaults), defaults.external_labels, Protocols.of(job, defaults)
        return context is self._context and own == wanted

    async def refresh(self) -> None:
        """Look for targets; start and end loops. Returns once ended loops have stored their stale markers."""
        self.found = find_targets(self.job, self._defaults, await self._sources.refresh())
        wanted = self.found.targets
        with contextlib.suppress(OSError):  # a TLS file that is gone: each scrape says so
            await self._fetcher.open()
        gone = [target for target in self.loops if target not in wanted]
        for target in wanted:
            if target not in self.loops:
                self._start(target)
        await self._end(gone)

    def problems(self) -> list[str]:
        """Why what was discovered may be old."""
        return self._sources.problems()

    def _start(self, target: Target) -> None:
        state = TargetState(
            self._rules(target), honor_timestamps=self.job.honor_timestamps, sample_limit=self.job.sample_limit
        )
        histograms = ProtobufReader(native=self._protocols.native, classic=self._protocols.classic)
        loop = TargetLoop(target, state, self._fetcher, self._context, histograms)
        name = f"scrape.{self.job.job_name}"
        self.loops[target] = (loop, asyncio.create_task(loop.run(), name=name))

    def _rules(self, target: Target) -> SeriesRules:
        job = self.job
        return SeriesRules(
            target.labels,
            job.honor_labels,
            [one.rule() for one in job.metric_relabel_configs],
            make_labels(self._defaults.external_labels),
            self._policy,
            job.label_limit,
            job.label_name_length_limit,
            job.label_value_length_limit,
            self._context.is_billing,
        )

    async def _end(self, targets: Sequence[Target]) -> None:
        ended = [self.loops.pop(target) for target in targets]
        for loop, _ in ended:
            loop.stop()
        for _, task in ended:
            await asyncio.gather(task, return_exceptions=True)

    def failed(self) -> BaseException | None:
        """The error of a loop or a discovery that ended by itself; there should be none."""
        for task in (*(task for _, task in self.loops.values()), *self._sources.tasks):
            if task.done() and not task.cancelled():
                return task.exception() or RuntimeError("a scrape loop returned")
        return None

    async def close(self) -> None:
        """End every target with stale markers."""
        await self._sources.close()
        await self._end(list(self.loops))
        await self._fetcher.close()


class ScrapePools:
    """The jobs of a configuration."""

    def __init__(
        self, jobs: Sequence[ScrapeConfig], defaults: GlobalSettings, policy: Policy, context: ScrapeContext
    ) -> None:
        self.jobs = [JobPool(job, defaults, policy, context) for job in jobs]
        self._policy = policy
        self._context = context
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Discover again and again. Raises what a scrape loop raised."""
        while True:
            intervals = [interval for pool in self.jobs for interval in pool.refresh_intervals()]
            async with self._lock:
                for pool in self.jobs:
                    await pool.refresh()
            self._context.metrics.targets.set(sum(len(pool.loops) for pool in self.jobs))
            await self._context.clock.sleep(min(intervals, default=5.0))
            for pool in self.jobs:
                error = pool.failed()
                if error is not None:
                    raise error

    async def apply(
        self,
        jobs: Sequence[ScrapeConfig],
        defaults: GlobalSettings,
        is_billing: Callable[[str], bool] | None = None,
    ) -> None:
        """From now on these jobs. One as it was goes on undisturbed; what is gone ends with stale markers.

        `is_billing`: another choice of lanes, so that every job begins anew; None: as before.
        """
        async with self._lock:
            if is_billing is not None:
                self._context = replace(self._context, is_billing=is_billing)
            running = {pool.job.job_name: pool for pool in self.jobs}
            self.jobs = [
                pool
                if (pool := running.get(job.job_name)) is not None and pool.is_as(job, defaults, self._context)
                else JobPool(job, defaults, self._policy, self._context)
                for job in jobs
            ]
            await asyncio.gather(*(pool.close() for pool in running.values() if pool not in self.jobs))
            for pool in self.jobs:
                await pool.refresh()

    async def close(self) -> None:
        """End all targets, each with stale markers."""
        await asyncio.gather(*(pool.close() for pool in self.jobs))
