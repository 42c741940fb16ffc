"""Several gateway processes on one port: started, watched, started again, stopped together.

Each worker is a whole gateway; the kernel spreads connections over them (SO_REUSEPORT), and what they must agree on
is in `shares`. A worker tells its parent about itself each second, through a pipe: why it is not ready, and its
metrics. A pipe that breaks tells the worker that its parent is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from kernel.clock import Clock
from kernel.errors import Stop
from kernel.logs import logger
from kernel.service import Service

REPORT_SECONDS = 1.0
SILENT_SECONDS = 30.0  # a worker that says nothing for so long hangs: it is killed and started again
START_SECONDS = 60.0
STOP_SECONDS = 8.0
MAX_PAUSE_SECONDS = 30.0
_MAX_REPORT_BYTES = 16 * 1024 * 1024
_log = logger("gateway")

Command = Callable[[int, int], Sequence[str]]  # of a worker's number and the pipe that it writes to


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker last said of itself."""

    reason: str | None  # why it is not ready
    metrics: str  # its registry, as text


async def report(service: Service, handle: int, clock: Clock) -> None:
    """In a worker: say each second how it is. Raises Stop when the parent is gone."""
    with os.fdopen(handle, "wb", buffering=0) as pipe:
        while True:
            reasons = "; ".join(f"{name}: {why}" for name, why in service.not_ready().items())
            metrics = generate_latest(service.registry).decode()
            line = json.dumps({"reason": reasons or None, "metrics": metrics}).encode() + b"\n"
            try:
                await asyncio.to_thread(_write_whole, pipe.fileno(), line)
            except BrokenPipeError:
                raise Stop("the process that started this worker is gone") from None
            await clock.sleep(REPORT_SECONDS)


def _write_whole(handle: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(handle, view) :]


class PortReservation:
    """A port that workers may listen on, bound but not listened to here: 0 becomes a number, and stays ours."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError."""
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self._socket = socket.socket(family, kind, proto)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(address)
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()


class Worker:
    """One process, again and again."""

    def __init__(self, number: int, command: Command, clock: Clock) -> None:
        self.number = number
        self.report: Report | None = None
        self.pid: int | None = None
        self._command, self._clock = command, clock
        self._reported = clock.monotonic()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def is_ready(self) -> bool:
        """Whether it runs and says so."""
        return self.report is not None and self.report.reason is None

    async def run(self) -> None:
        """Start it, and again whenever it ends, until cancelled."""
        pause = 1.0
        while not self._stopping:
            started = self._clock.monotonic()
            code = await self._live()
            if self._stopping:
                return
            _log.error("worker_ended", worker=self.number, status=code)
            pause = 1.0 if self._clock.monotonic() - started > 2 * MAX_PAUSE_SECONDS else pause
            await self._clock.sleep(pause)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)

    async def _live(self) -> int:
        readable, writable = os.pipe()
        try:
            command = self._command(self.number, writable)
            process = await asyncio.create_subprocess_exec(*command, pass_fds=(writable,))
        except BaseException:
            os.close(readable)
            raise
        finally:
            os.close(writable)
        self._process, self.pid, self._reported = process, process.pid, self._clock.monotonic()
        reading = asyncio.create_task(self._read(readable), name=f"gateway-worker-{self.number}-reports")
        try:
            return await process.wait()
        finally:
            reading.cancel()
            self.report, self.pid = None, None

    async def _read(self, handle: int) -> None:
        stream = asyncio.StreamReader(limit=_MAX_REPORT_BYTES)
        protocol = asyncio.StreamReaderProtocol(stream)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: protocol, os.fdopen(handle, "rb", buffering=0)
        )
        try:
            while line := await stream.readline():
                self.report, self._reported = Report(**json.loads(line)), self._clock.monotonic()
        finally:
            transport.close()

    def kill_if_silent(self) -> None:
        """End a worker that hangs: `run` starts another."""
        process, silent = self._process, self._clock.monotonic() - self._reported
        if process is not None and process.returncode is None and silent > SILENT_SECONDS:
            _log.error("worker_silent", worker=self.number, seconds=round(silent))
            process.kill()

    async def stop(self) -> None:
        """Ask it to end; kill it when it does not in time. Idempotent."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            _log.error("worker_did_not_stop", worker=self.number)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Workers(Collector):
    """All workers of one gateway; in a registry it gives their metrics, with a label `worker`."""

    def __init__(self, command: Command, count: int, clock: Clock) -> None:
        self.workers = [Worker(number, command, clock) for number in range(1, count + 1)]
        self._clock = clock

    async def run(self) -> None:
        """Keep all of them running until cancelled; then stop them."""
        running = [asyncio.create_task(worker.run(), name=f"worker-{worker.number}") for worker in self.workers]
        try:
            while True:
                await self._clock.sleep(REPORT_SECONDS)
                for worker in self.workers:
                    worker.kill_if_silent()
                for task in running:
                    if task.done():
                        task.result()
        finally:
            await asyncio.gather(*(worker.stop() for worker in self.workers))
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def started(self) -> None:
        """Return when each worker is ready. Raises Stop when that takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while self.not_ready():
                    await self._clock.sleep(0.05)
        except TimeoutError:
            raise Stop(f"gateway workers did not start: {self.not_ready()}") from None

    def not_ready(self) -> str | None:
        """Which workers are not, and why."""
        found = [
            f"worker {worker.number}: {worker.report.reason if worker.report else 'does not run'}"
            for worker in self.workers
            if not worker.is_ready
        ]
        return "; ".join(found) or None

    def collect(self) -> Iterable[Metric]:
        """Every worker's metrics; families that several have are one."""
        families: dict[str, Metric] = {}
        for worker in self.workers:
            for family in text_string_to_metric_families(worker.report.metrics if worker.report else ""):
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type, family.unit)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "worker": str(worker.number)}
                    known.add_sample(sample.name, labels, sample.value, sample.timestamp, sample.exemplar)
        return families.values()

    def describe(self) -> Iterable[Metric]:
        """None: what there is shows when the workers have said it."""
        return ()
