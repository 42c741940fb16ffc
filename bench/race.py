"""One agent after the other against the same target: scrape, push over mutual TLS, and what that took.

The target serves the same pages to each (same seed, a process of its own). An agent has one core to itself, the
target and the sink share the other. Counting begins when the caches are warm, and begins and ends at the start of
a scrape, when the scrape before has been worked off; so it ends short of what an agent still holds back, for both.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
MOST_WARM = 4  # times the warm scrapes, after which counting begins whatever waits
INTERVALS_SECONDS = (1, 2, 5)


@dataclass(frozen=True)
class Course:
    """The same for both agents. `warm` scrapes come before the `counted` ones."""

    series: int
    churn: float
    interval_seconds: int
    warm: int
    counted: int


@dataclass(frozen=True)
class Addresses:
    """Ports, and how often to scrape."""

    target: int
    sink: int
    interval_seconds: int


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
        course = Course(course.series, course.churn, interval, course.warm, course.counted)
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
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        scrapes = 2 * course.warm + course.counted
        pages = ["-m", "bench.target", "--series", str(course.series), "--churn", str(course.churn)]
        async with (
            program("sink", python("-m", "bench.sink", text), folder, other_core()) as sink,
            program("target", python(*pages, "--prepared", str(scrapes)), folder, other_core()) as target,
        ):
            push, plain = (int(port) for port in (await sink.line()).split())
            addresses = Addresses(int(await target.line()), push, course.interval_seconds)
            agent_command = command(folder, addresses)
            async with program(name, agent_command, folder, measured_core(), is_heard=False) as agent:
                found = await _count(agent, target, plain, course)
    note(f"{name}: {found}")
    return found


async def _count(agent: Program, target: Program, sink_port: int, course: Course) -> Lap:
    first, before = await _warm_up(target, sink_port, course)
    cpu, wall = cpu_seconds(agent.pid), time.monotonic()
    await _await_scrape(target, first + course.counted)
    cpu, wall = cpu_seconds(agent.pid) - cpu, time.monotonic() - wall
    after = await _counts(sink_port)
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


async def _warm_up(target: Program, sink_port: int, course: Course) -> tuple[int, dict[str, Any]]:
    """Past the warm scrapes, and on until what the first ones left in the queue has arrived."""
    number = course.warm + 1
    while True:
        await _await_scrape(target, number)
        counts = await _counts(sink_port)
        waiting = number - 1 - counts["samples"] / course.series
        if waiting < MOST_WAITING or number > MOST_WARM * course.warm:
            return number, counts
        number += 1


async def _await_scrape(target: Program, number: int) -> None:
    while int(await target.line()) < number:
        pass


async def _counts(port: int) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/counts") as answer,
    ):
        counts: dict[str, Any] = json.loads(await answer.text())
    return counts


def race_now(course: Course, runs: int) -> Race:
    """`race` for callers without a loop."""
    return asyncio.run(race(course, runs))
