"""What the stages of the demo share: folders, programs, figures, and how progress is shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from console.demo.network import Wire
from console.demo.programs import Program, ProgramFailed
from console.demo.receiver import Receiver
from console.demo.witness import Witness
from kernel.clock import Clock

LOOK_SECONDS = 0.25


@dataclass
class Stage:
    """The play's props. `figures` becomes summary.json; nothing goes in that was not measured."""

    out: Path
    state: Path
    clock: Clock
    console: Console
    base_config: Path | None
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    wires: dict[str, Wire] = field(default_factory=dict)
    receiver: Receiver | None = None
    witness: Witness | None = None
    witness_address: str = ""

    @property
    def config(self) -> Path:
        """The vendor's settings."""
        return self.state / "vendor.yaml"

    @property
    def vendor_folder(self) -> Path:
        """The vendor side's folder."""
        return self.state / "vendor"

    def customer_folder(self, organization: str) -> Path:
        """Where a customer keeps its collector's files."""
        return self.state / organization

    def project_folder(self, project: str) -> Path:
        """Where the local provider keeps "the VPC" of a project."""
        return self.vendor_folder / "vpc" / project

    @asynccontextmanager
    async def timed(self, name: str, title: str) -> AsyncIterator[None]:
        """One stage, shown while it runs and timed."""
        started = self.clock.monotonic()
        with self.console.status(title, spinner="dots"):
            yield
        elapsed = self.clock.monotonic() - started
        self.seconds[name] = round(elapsed, 2)
        self.console.print(f"[green]✓[/] {title} [dim]{elapsed:.1f} s[/]")

    def say(self, text: str) -> None:
        """A line about what was seen."""
        self.console.print(f"  {text}", highlight=False)

    async def until(
        self, what: str, look: Callable[[], Awaitable[bool]], timeout_seconds: float, program: str | None = None
    ) -> None:
        """Look until it is so. Raises ProgramFailed after `timeout_seconds`, or when `program` has ended."""
        deadline = self.clock.monotonic() + timeout_seconds
        while not await look():
            if program:
                self.programs[program].check()
            if self.clock.monotonic() > deadline:
                raise ProgramFailed(
                    f"waited {timeout_seconds:g} s in vain for {what}; the logs are in {self.state}"
                )
            await self.clock.sleep(LOOK_SECONDS)

    async def start_program(self, name: str, *words: str) -> Program:
        """Start a program of the play."""
        program = Program(name, list(words), self.state / f"{name}.log")
        self.programs[name] = program
        await program.start()
        return program

    async def end(self) -> None:
        """Stop everything, in an order in which nobody misses anybody."""
        for name in sorted(self.programs, reverse=True):
            await self.programs[name].stop()
        for wire in self.wires.values():
            await wire.close()
        for part in (self.witness, self.receiver):
            if part is not None:
                await part.close()


def read_json(path: Path) -> Any:
    """The document in a file, or None while it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
