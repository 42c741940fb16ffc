"""The programs of the demo: each is a process of its own, as it would be in two networks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import ByocError, truncate

STOP_SECONDS = 20.0


class ProgramFailed(ByocError):
    """A program of the demo ended when it should not have, or said no when it should not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished command said."""

    status: int
    output: str
    errors: str


async def byoc(config: Path | None, *words: str) -> Outcome:
    """Run one `byoc` command to its end."""
    options = ["-c", str(config)] if config else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "console",
        *options,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    return Outcome(process.returncode or 0, output.decode().strip(), errors.decode().strip())


async def succeed(config: Path | None, *words: str) -> str:
    """Run one `byoc` command; its standard output. Raises ProgramFailed."""
    done = await byoc(config, *words)
    if done.status:
        raise ProgramFailed(f"byoc {' '.join(words)} ended with {done.status}: {truncate(done.errors, 2000)}")
    return done.output


class Program:
    """A `byoc` command that runs until it is stopped; its log goes to a file."""

    def __init__(self, name: str, words: list[str], log: Path) -> None:
        self.name = name
        self._words = words
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it. A program that is killed and started again appends to its log."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "console",
                *self._words,
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def check(self) -> None:
        """Raises ProgramFailed with the end of its log if it is not running."""
        if self._process is None or self._process.returncode is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:] if self.log.exists() else ""
            raise ProgramFailed(f"{self.name} is not running; the end of {self.log}:\n{tail}")

    async def stop(self) -> None:
        """Ask it to end, and see that it does. Idempotent."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()
