"""An engine without threads or timers: it runs what the jobs table says, on the caller's loop and clock.

For tests of the workflow rules on virtual time. Results of steps live as long as the object, so a "crash" is an
exception out of a step and a second `drain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import sqlalchemy as sa

from kernel.database import Database
from kernel.ids import JobId
from provisioner import store
from provisioner.ports import Workflow


class Crashed(BaseException):
    """The process "died" here. Not an Exception, so that no step can catch it."""


class MemoryEngine:
    """Runs jobs that are committed and unfinished."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._workflow: Workflow | None = None
        self._results: dict[tuple[JobId, str], str] = {}
        self.crash_before: str | None = None  # name of a step: Crashed instead of running it
        self.crash_after: str | None = None  # name of a step: it runs, its result is lost

    def prepare(self) -> None:
        """Nothing to prepare."""

    def enqueue(self, connection: sa.Connection, job: JobId) -> None:
        """Nothing: the job's row, written by the same transaction, is the queue."""

    async def start(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def stop(self) -> None:
        self._workflow = None

    async def drain(self) -> None:
        """Run every unfinished job to its end, side by side. Raises Crashed, and what a workflow raises."""
        if self._workflow is None:
            raise RuntimeError("start the engine first")
        waiting = await self._database.run(store.unfinished_jobs)
        runs = [self._workflow(job.id, _Steps(self, job.id)) for job in waiting]
        for ended in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    async def replay(self, job: JobId) -> None:
        """Run the workflow of one job again, done or not, as an engine that lost its last note would."""
        if self._workflow is None:
            raise RuntimeError("start the engine first")
        await self._workflow(job, _Steps(self, job))

    async def step(self, job: JobId, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Run or recall."""
        if (job, name) not in self._results:
            self._crash_if(name, self.crash_before)
            result = await work()
            self._crash_if(name, self.crash_after)
            self._results[job, name] = result
        return self._results[job, name]

    @staticmethod
    def _crash_if(name: str, at: str | None) -> None:
        if name == at:
            raise Crashed(name)


class _Steps:
    def __init__(self, engine: MemoryEngine, job: JobId) -> None:
        self._engine = engine
        self._job = job

    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        return await self._engine.step(self._job, name, work)
