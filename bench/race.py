"""One agent after the other against the same targets: scrape, push over mutual TLS, and what that took.

The target serves the same pages to each (same seed, a process of its own). An agent has one core to itself, the
target and the sink share the other. Counting begins when the caches are warm, and begins and ends at the start of
a scrape, when the scrape before has been worked off; so it ends short of what an agent still holds back, for both.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from bench.agents import collector_command, vmagent_command
from bench.identity import write_identity
from bench.machine import cpu_seconds, measured_core, note, other_core, peak_bytes, pinned
from bench.process import Program, program, python

Command = Callable[[Path, "Addresses"], list[str]]
TOO_SLOW = 1.1  # times the interval: the agent left scrapes out
MOST_WAITING = 1.5  # scrapes that an agent may hold back when counting begins
MOST_PREPARED = 4_000_000  # series of all pages that are made beforehand: some 600 MB
PAGES_SECONDS = 300.0  # to make the pages of a million series
MOST_WARM = 4  # times the warm scrapes, after which counting begins whatever waits
INTERVALS_SECONDS = (1, 2, 5)


@dataclass(frozen=True)
class Course:
    """The same for both agents. `warm` scrapes come before the `counted` ones.

    `series` are those of all targets together. With a `recording` its pages are served, `series` is what they hold.
    The first `quiet` pages have the same series, whatever the churn.
    """

    series: int
    churn: float
    interval_seconds: int
    warm: int
    counted: int
    targets: int = 1
    quiet: int = 0
    recording: Path | None = None

    def pages(self) -> list[str]:
        """The command of the targets."""
        prepared = str(min(self.quiet + 2 * self.warm + self.counted, MOST_PREPARED // self.series))
        command = ["-m", "bench.target", "--targets", str(self.targets), "--prepared", prepared]
        if self.recording:
            return [*command, "--recording", str(self.recording)]
        series = str(self.series // self.targets)
        return [*command, "--series", series, "--churn", str(self.churn), "--quiet", str(self.quiet)]


@dataclass(frozen=True)
class Addresses:
    """Ports, how often to scrape, and whether a page has more than the default allow-list lets out."""

    targets: tuple[int, ...]
    sink: int
    interval_seconds: int
    lets_all_out: bool = False


@dataclass(frozen=True)
class Lap:
    """What one agent used in the counted scrapes."""

    cpu_us_per_sample: float
    wire_bytes_per_sample: float
    body_bytes_per_sample: float
    peak_megabytes: float
    kept_up: bool
    cipher: str
    samples_arrived_ratio: float


@dataclass(frozen=True)
class Race:
    """Laps of both, the runs alternating."""

    course: Course
    ours: list[Lap]
    peer: list[Lap]


async def race(course: Course, runs: int) -> Race:
    """Both agents, `runs` times each, at the shortest interval at which ours keeps up."""
    ours: list[Lap] = []
    peer: list[Lap] = []
    for interval in (each for each in INTERVALS_SECONDS if each >= course.interval_seconds):
        course = replace(course, interval_seconds=interval)
        first = await lap("collector", collector_command, course)
        if first.kept_up:
            break
        note(f"the collector does not keep an interval of {interval} s at {course.series} series")
    ours.append(first)
    peer.append(await lap("vmagent", vmagent_command, course))
    for _ in range(runs - 1):
        ours.append(await lap("collector", collector_command, course))
        peer.append(await lap("vmagent", vmagent_command, course))
    return Race(course, ours, peer)


async def lap(name: str, command: Command, course: Course) -> Lap:
    """One agent over the course."""
    async with running(name, command, course) as stage:
        found = await _count(stage, course)
    note(f"{name}: {found}")
    return found


@dataclass(frozen=True)
class Stage:
    """An agent that scrapes the targets and pushes to the sink."""

    agent: Program
    target: Program
    sink_port: int

    async def await_scrape(self, number: int) -> None:
        """Until a scrape of the first target begins, counted from 1."""
        while int(await self.target.line()) < number:
            pass

    async def counts(self) -> dict[str, Any]:
        """What has arrived so far."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.sink_port}/counts") as answer,
        ):
            counts: dict[str, Any] = json.loads(await answer.text())
        return counts

    async def warm_up(self, course: Course) -> tuple[int, dict[str, Any]]:
        """Past the warm scrapes, and on until what the first ones left in the queue has arrived."""
        number = course.warm + 1
        while True:
            await self.await_scrape(number)
            counts = await self.counts()
            waiting = number - 1 - counts["samples"] / course.series
            if waiting < MOST_WAITING or number > MOST_WARM * course.warm:
                return number, counts
            number += 1


@asynccontextmanager
async def running(name: str, command: Command, course: Course) -> AsyncIterator[Stage]:
    """One agent on its core; the targets and the sink on the other."""
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        async with (
            program("sink", python("-m", "bench.sink", text), folder, other_core()) as sink,
            program("target", python(*course.pages()), folder, other_core()) as target,
        ):
            push, plain = (int(port) for port in (await sink.line()).split())
            ports = tuple(int(port) for port in (await target.line(PAGES_SECONDS)).split())
            addresses = Addresses(ports, push, course.interval_seconds, course.recording is not None)
            async with program(name, command(folder, addresses), folder, measured_core(), is_heard=False) as agent:
                yield Stage(agent, target, plain)


async def _count(stage: Stage, course: Course) -> Lap:
    agent = stage.agent
    first, before = await stage.warm_up(course)
    cpu, wall = cpu_seconds(agent.pid), time.monotonic()
    await stage.await_scrape(first + course.counted)
    cpu, wall = cpu_seconds(agent.pid) - cpu, time.monotonic() - wall
    after = await stage.counts()
    samples = after["samples"] - before["samples"]
    scraped = course.counted * course.series
    return Lap(
        cpu_us_per_sample=cpu / scraped * 1e6,
        wire_bytes_per_sample=(after["wire_bytes"] - before["wire_bytes"]) / samples,
        body_bytes_per_sample=(after["body_bytes"] - before["body_bytes"]) / samples,
        peak_megabytes=peak_bytes(agent.pid) / 1e6,
        kept_up=wall <= TOO_SLOW * course.counted * course.interval_seconds and abs(samples / scraped - 1) < 0.1,
        cipher=",".join(after["ciphers"]),
        samples_arrived_ratio=round(samples / scraped, 3),
    )


def race_now(course: Course, runs: int) -> Race:
    """`race` for callers without a loop."""
    return asyncio.run(race(course, runs))
