"""The durable engine: DBOS, its tables in the application's own database, SQLite or PostgreSQL.

One for each process: DBOS is a process-wide singleton. A workflow is started by a row that is written in the
caller's transaction, so a process that only enqueues (the CLI) needs no running engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import TYPE_CHECKING

import sqlalchemy as sa

from kernel.database import Database
from kernel.errors import Refuse
from kernel.ids import JobId
from provisioner.ports import Workflow

if TYPE_CHECKING:  # loading DBOS costs most of a second, and a command that only looks needs none of it
    from dbos import DBOSClient, DBOSConfig, EnqueueOptions

APPLICATION = "byoc"
WORKFLOW = "byoc.lifecycle"
QUEUE = "byoc-lifecycle"
# A workflow is resumed only by the version that began it: raise this when the steps of a workflow change.
APPLICATION_VERSION = "1"
CONCURRENT_JOBS = 4
POLL_SECONDS = 0.2


class EngineBusy(Refuse):
    """Another durable engine runs in this process."""


class DurableEngine:
    """Enqueues from anywhere; runs workflows between `start` and `stop`, on a thread and loop of its own.

    `executor` names this process among those that run workflows on the database. It must be the same after a
    restart, or what was interrupted is not resumed; two processes must not share one.
    """

    _running: DurableEngine | None = None

    def __init__(self, database: Database, executor: str = "vendor") -> None:
        self._url = database.url.render_as_string(hide_password=False)
        self._executor = executor
        self._client: DBOSClient | None = None
        self._client_lock = Lock()

    def enqueue(self, connection: sa.Connection, job: JobId) -> None:
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": job,
            "app_version": APPLICATION_VERSION,
        }
        self._connected().enqueue_in_transaction(connection, options, job)

    def prepare(self) -> None:
        """Create or migrate the engine's tables. Blocking; call outside of any transaction."""
        from dbos import DBOS, DBOSClient

        with self._client_lock:
            if self._client is None:
                DBOS.migrate(self._url)
                self._client = DBOSClient(system_database_url=self._url, application_name=APPLICATION)

    def _connected(self) -> DBOSClient:
        if self._client is None:
            raise RuntimeError("prepare the engine before a transaction enqueues: migrating inside would deadlock")
        return self._client

    async def start(self, workflow: Workflow) -> None:
        if DurableEngine._running not in {None, self}:
            raise EngineBusy("a durable engine runs in this process already: stop it first")
        DurableEngine._running = self
        await asyncio.to_thread(self._launch, workflow)

    def _launch(self, workflow: Workflow) -> None:
        from dbos import DBOS

        self.prepare()
        DBOS(config=self._config())

        @DBOS.workflow(name=WORKFLOW)
        async def lifecycle(job: str) -> None:
            await workflow(JobId(job), _Steps())

        # Launched from a thread without a loop, DBOS runs workflows on its own and not on the web server's.
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=CONCURRENT_JOBS, polling_interval_sec=POLL_SECONDS)

    def _config(self) -> DBOSConfig:
        return {
            "name": APPLICATION,
            "system_database_url": self._url,
            "application_version": APPLICATION_VERSION,
            "executor_id": self._executor,
            "log_level": "ERROR",
            "console_log_level": "ERROR",
            "max_executor_threads": 16,
        }

    async def stop(self) -> None:
        if DurableEngine._running is self:
            from dbos import DBOS

            await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
            DurableEngine._running = None
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)
            self._client = None


class _Steps:
    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        from dbos import DBOS

        async def run() -> str:
            return await work()

        return await DBOS.run_step_async({"name": name}, run)
