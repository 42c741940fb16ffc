"""A `byoc` command as a process of its own, that can be killed, halted and waited for. Everything blocks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.length import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.05


def until(what: str, look: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Look until it is so; fails when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(LOOK_SECONDS)


class Program:
    """Its output goes to a file; a program that is started again appends to it."""

    def __init__(self, log: Path, *words: str, host: str | None = None) -> None:
        """`host`: the network namespace that it runs in; None for the test's own."""
        self.log = log
        self._words = words
        self._way_in = ["ip", "netns", "exec", host] if host else []
        self._process: subprocess.Popen[bytes] | None = None
        self._begin = 0
        self.is_doomed = False  # it was started to die at a step

    def start(self, crash_at: str = "", crash_signal: signal.Signals = signal.SIGKILL) -> None:
        """Start it, to die (or halt) at a named place if one is given."""
        assert not self.runs
        self.is_doomed = bool(crash_at)
        environment = {**os.environ, "BYOC_CRASH_AT": crash_at, "BYOC_CRASH_SIGNAL": crash_signal.name}
        with self.log.open("ab") as log:
            self._begin = log.tell()
            self._process = subprocess.Popen(
                [*self._way_in, sys.executable, "-m", *self._words],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def said(self) -> str:
        """What this life of it wrote."""
        return self.log.read_bytes()[self._begin :].decode(errors="replace")

    def check(self) -> None:
        assert self.runs, f"it ended, and should run:\n{self.said()[-3000:]}"

    def died_at(self, place: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it was killed, by SIGKILL and at that place and no other."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{place} was not reached:\n{self.said()[-3000:]}") from None
        assert status == -signal.SIGKILL, f"it ended with {status} before {place}:\n{self.said()[-3000:]}"
        assert f"crash point {place}\n" in self.said()

    def halted_at(self, place: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it stands still at that place."""
        until(f"a halt at {place}", lambda: self._is_halted() or not self.runs, seconds)
        self.check()
        assert f"crash point {place}\n" in self.said()

    def _is_halted(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Ask it to stop, as a service manager does, and wait until it has."""
        self.send(signal.SIGTERM)
        assert self._process is not None
        self._process.wait(seconds)

    def kill(self) -> None:
        """`kill -9`, halted or not, also one that died by itself. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
