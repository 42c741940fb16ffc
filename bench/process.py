"""Programs that a benchmark starts: each on its core, ended with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.machine import pinned

START_SECONDS = 120.0
STOP_SECONDS = 30.0


class ProgramFailed(Exception):
    """A program of a benchmark ended, or did not say what it should in time."""


class Program:
    """A running program. What it prints can be read line by line; what it logs is in a file."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.pid = name, child.pid
        self._child, self._log = child, log

    async def line(self, timeout_seconds: float = START_SECONDS) -> str:
        """The next line of its standard output. Raises ProgramFailed."""
        assert self._child.stdout is not None
        try:
            found = await asyncio.wait_for(self._child.stdout.readline(), timeout_seconds)
        except TimeoutError:
            raise ProgramFailed(f"{self.name} said nothing for {timeout_seconds:g} s\n{self._tail()}") from None
        if not found:
            raise ProgramFailed(f"{self.name} ended\n{self._tail()}")
        return found.decode().strip()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    async def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self._child.returncode is not None:
            return
        self._child.terminate()
        try:
            await asyncio.wait_for(self._child.wait(), STOP_SECONDS)
        except TimeoutError:
            self._child.kill()
            await self._child.wait()


@asynccontextmanager
async def program(
    name: str, command: Sequence[str], folder: Path, core: int, *, is_heard: bool = True
) -> AsyncIterator[Program]:
    """`command` on one core, its log in `folder`; what it prints too unless it `is_heard`."""
    path = folder / f"{name}.log"
    with path.open("ab") as log, pinned(core):
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if is_heard else log,
            stderr=log,
        )
    running = Program(name, child, path)
    try:
        yield running
    finally:
        await running.stop()


def python(*arguments: str) -> list[str]:
    """A command of this Python."""
    return [sys.executable, *arguments]
