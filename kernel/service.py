"""A service runner: named guarded tasks and a bounded graceful stop.

Tasks are started in order and stopped in reverse. A task that ends with an error, or ends at all before the
stop, stops the service: a half-dead process is worse than a dead one that is restarted.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from kernel.errors import Stop
from kernel.logs import logger

Check = Callable[[], str | None]
_log = logger("service")


@dataclass
class Service:
    """What one process runs. `checks` say why it is not ready (None: ready); `notes` what else is amiss."""

    name: str
    registry: CollectorRegistry
    stop_seconds: float = 10.0
    checks: dict[str, Check] = field(default_factory=dict)
    notes: dict[str, Check] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _closers: list[tuple[str, Callable[[], Awaitable[object]]]] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _failed: tuple[str, BaseException] | None = None

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until the service stops."""
        if name in self._tasks:
            raise ValueError(f"a task {name!r} runs already")
        task = asyncio.create_task(work, name=f"{self.name}.{name}")
        task.add_done_callback(self._on_done)
        self._tasks[name] = task
        return task

    def on_close(self, name: str, close: Callable[[], Awaitable[object]]) -> None:
        """Call `close` after all tasks have ended, in reverse order of registration."""
        self._closers.append((name, close))

    def stop(self) -> None:
        """Ask the service to end. Returns at once."""
        self._stopping.set()

    async def run(self) -> None:
        """Until SIGTERM, SIGINT, `stop()` or a failed task; then shut down in at most `stop_seconds`.

        Raises Stop, with the task's error as cause, when a task failed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self._stopping.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            await self.shutdown()
        if self._failed:
            name, error = self._failed
            raise Stop(f"{self.name}: task {name} ended: {error!r}") from error

    async def shutdown(self) -> None:
        """Cancel the tasks in reverse order, then close. Bounded by `stop_seconds` for each of the two."""
        self._stopping.set()
        pending = [task for task in reversed(self._tasks.values()) if not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            _, stuck = await asyncio.wait(pending, timeout=self.stop_seconds)
            for task in stuck:
                _log.error("task_did_not_stop", service=self.name, task=task.get_name())
        try:
            async with asyncio.timeout(self.stop_seconds):
                while self._closers:
                    name, close = self._closers.pop()
                    await self._close(name, close)
        except TimeoutError:
            _log.error("close_timed_out", service=self.name)
        self._tasks.clear()

    async def _close(self, name: str, close: Callable[[], Awaitable[object]]) -> None:
        try:
            await close()
        except Exception:  # one part that fails to close must not keep the others open
            _log.exception("close_failed", service=self.name, part=name)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error: BaseException | None = None if task.cancelled() else task.exception()
        if self._stopping.is_set():
            if error:
                _log.error("task_failed_in_stop", service=self.name, task=task.get_name(), error=repr(error))
            return
        if error is None:
            error = RuntimeError("was cancelled" if task.cancelled() else "returned before the stop")
        _log.error("task_ended", service=self.name, task=task.get_name(), error=repr(error))
        self._failed = task.get_name(), error
        self._stopping.set()

    def not_ready(self) -> dict[str, str]:
        """Reasons by name; empty when ready."""
        return _reasons(self.checks)

    def amiss(self) -> dict[str, str]:
        """Reasons and notes by name."""
        return self.not_ready() | _reasons(self.notes)


def _reasons(checks: dict[str, Check]) -> dict[str, str]:
    reasons = {name: check() for name, check in checks.items()}
    return {name: reason for name, reason in reasons.items() if reason}
