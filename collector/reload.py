"""Settings that change while the collector runs: on SIGHUP, and when the content of a file is another one.

A new file is read whole. One that is bad, or changes what only a restart can, changes nothing: the old settings
hold on, and the log, a metric and /readyz say which field it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from collector.errors import IdentityRefused
from collector.lanes import BillingNames
from collector.metrics import CollectorMetrics
from collector.policy_keeper import PolicyKeeper
from collector.scrape.settings import GlobalSettings, ScrapeConfig
from collector.settings import CollectorSettings, load_collector_settings
from kernel.clock import Clock
from kernel.errors import Finding, InvalidInput
from kernel.logs import logger

_log = logger("reload")
# What a running process holds on to: folders, sockets, who may sign.
FIXED = (
    "gateway", "spool", "left", "health", "pseudonyms", "reader", "remote_write", "policy_file.path",
    "policy_file.mode", "policy_file.public_key", "policy_file.signature",
)  # fmt: skip


class Jobs(Protocol):
    """What scrapes. Jobs that are as they were go on undisturbed."""

    async def apply(
        self, jobs: Sequence[ScrapeConfig], defaults: GlobalSettings, is_billing: Callable[[str], bool] | None
    ) -> None:
        """From now on these jobs; what is gone ends with stale markers. `is_billing` None: lanes as before."""


class Reloader:
    """`path` None: the settings came from elsewhere, and only the policy file is looked at."""

    def __init__(
        self,
        path: Path | None,
        settings: CollectorSettings,
        keeper: PolicyKeeper,
        jobs: Jobs,
        metrics: CollectorMetrics,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.problem: str | None = None
        self._path = path
        self._keeper = keeper
        self._jobs = jobs
        self._metrics = metrics
        self._clock = clock
        self._asked = asyncio.Event()
        self._seen: dict[Path, str] = {}

    def request(self) -> None:
        """Look now, whether or not a file changed."""
        self._asked.set()

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: then no signal comes here
            loop.add_signal_handler(signal.SIGHUP, self.request)
        try:
            while True:  # the first look reads again whatever changed since the start
                await self._wait()
                asked = self._asked.is_set()
                self._asked.clear()
                seen = await self._look()
                # A policy that does not hold is read again each time: the key or the disk may be the fault.
                if asked or seen != self._seen or self._keeper.problem is not None or self._keeper.unwritten:
                    self._seen = seen
                    await self.reload()
        finally:
            with contextlib.suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(signal.SIGHUP)

    async def reload(self) -> None:
        """Read everything again and use it, or keep what there is and say why."""
        try:
            settings = self.settings
            if self._path is not None:
                settings = await asyncio.to_thread(load_collector_settings, self._path)
                check_fixed(self.settings, settings, str(self._path))
            await self._keeper.refresh(settings)
        except (InvalidInput, IdentityRefused, OSError) as error:
            self._refused(str(error))
            return
        if settings != self.settings:
            same_lanes = settings.lanes == self.settings.lanes
            is_billing = None if same_lanes else BillingNames(settings.lanes.billing)
            await self._jobs.apply(settings.scrape_configs, settings.global_, is_billing)
            self.settings = settings
            _log.info("settings_reloaded", jobs=len(settings.scrape_configs))
            self._metrics.reloads.labels("used").inc()
        self.problem = None
        self._metrics.reload_failed.set(0)

    def _refused(self, reason: str) -> None:
        if reason != self.problem:
            _log.error("settings_refused", reason=reason.replace("\n", "; "))
            self._metrics.reloads.labels("refused").inc()
        self.problem = reason
        self._metrics.reload_failed.set(1)

    async def _wait(self) -> None:
        seconds = self.settings.reload.interval
        if seconds == 0:
            await self._asked.wait()
            return
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({sleep, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleep, asked):
                task.cancel()
            await asyncio.gather(sleep, asked, return_exceptions=True)

    async def _look(self) -> dict[Path, str]:
        files = [self._path] if self._path is not None else []
        return await asyncio.to_thread(_digests, [*files, *named_files(self.settings)])


def check_fixed(old: CollectorSettings, new: CollectorSettings, source: str) -> None:
    """Raises InvalidInput when something changed that needs a restart."""
    findings = []
    for name in FIXED:
        before, after = (_at(settings, name) for settings in (old, new))
        if before != after:
            field = _changed(before, after)
            findings.append(Finding(source, f"{name}{field}", "another value", "a restart, to change this"))
    if findings:
        raise InvalidInput(findings)


def _at(settings: BaseModel, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _changed(before: object, after: object) -> str:
    """Which fields of a section, for the message; values may be secrets."""
    if not isinstance(before, BaseModel):
        return ""
    names = [name for name in type(before).model_fields if getattr(before, name) != getattr(after, name)]
    return f".{names[0]}" if len(names) == 1 else f" ({', '.join(names)})"


def named_files(settings: CollectorSettings) -> Iterable[Path]:
    """Files whose content the settings or the policy depend on. Passwords and tokens are read at each use."""
    file = settings.policy_file
    found = [file.path, file.public_key, file.signature, settings.pseudonyms.key_file]
    if file.path is not None and file.signature is None:
        found.append(file.path.with_name(file.path.name + ".sig"))
    for job in settings.scrape_configs:
        tls = job.tls_config
        found += [tls.ca_file, tls.cert_file, tls.key_file]
    return [path for path in found if path is not None]


def _digests(paths: Iterable[Path]) -> dict[Path, str]:
    """Of the content, not of times: a file that is written again as it was has not changed."""
    found: dict[Path, str] = {}
    for path in paths:
        try:
            found[path] = sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            found[path] = f"unreadable: {error.strerror}"
    return found
