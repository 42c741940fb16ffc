"""What a thousand replaced series cost, by how many are there; and what a sample costs, by how many are there.

An agent scrapes one target in one process: first pages whose series stay, then pages in which 1,000 series gave
way to new ones, at places drawn anew. What the second part costs more is of those thousand. It should be the same
behind 10,000 series and behind a million. `vendor` is of the peer, and of the gateway and the lake, which have no
such parts: their cost by sample is shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench import gateway, lake
from bench.agents import collector_command, vmagent_command
from bench.machine import cpu_seconds, note
from bench.outcome import Budget, Outcome
from bench.pushes import Scrapes, frames
from bench.race import MOST_WARM, TOO_SLOW, Command, Course, running

REPLACED = 1_000
SIZES = (10_000, 100_000, 1_000_000)
INTERVALS_SECONDS = {10_000: 1, 100_000: 1, 1_000_000: 5}
COUNTED = {10_000: 8, 100_000: 8, 1_000_000: 4}  # scrapes of each part; together under two minutes
GATEWAY_SAMPLES = 10_000_000
LAKE_SAMPLES = 12_000_000
SETTLE = 1  # scrapes after the first replaced series that are not counted
BUDGET = Budget(2.0)


@dataclass(frozen=True)
class _Grown:
    """Milliseconds of processor time of a scrape."""

    quiet_ms: float
    replacing_ms: float
    kept_up: bool

    @property
    def added_ms(self) -> float:
        return self.replacing_ms - self.quiet_ms


def measure(*, quick: bool) -> Outcome:
    """How much more 1,000 replaced series cost behind the most series than behind the fewest: 1 is flat."""
    return _growth("growth", "collector", collector_command, quick=quick)


def vendor(*, quick: bool) -> Outcome:
    """The same of vmagent, which holds nothing; `details` have the gateway's and the lake's cost by series."""
    found = _growth("growth-vendor", "vmagent", vmagent_command, quick=quick)
    sizes = SIZES[:2] if quick else SIZES
    details = {
        **found.details,
        "gateway_us_per_sample": {str(size): _gateway_us(size) for size in sizes},
        "lake_us_per_sample": {str(size): _lake_us(size) for size in sizes},
    }
    return replace(found, details=details)


def _growth(benchmark: str, name: str, command: Command, *, quick: bool) -> Outcome:
    sizes = SIZES[:2] if quick else SIZES
    found = {size: _lap(name, command, size, 5 if quick else COUNTED[size]) for size in sizes}
    runs = [found[sizes[-1]].added_ms / found[sizes[0]].added_ms]
    details: dict[str, object] = {"replaced": REPLACED, f"{name}_ms_of_a_scrape": _table(found)}
    unit = f"cost of {REPLACED} replaced series behind {sizes[-1]:,} series, over that behind {sizes[0]:,}"
    return Outcome(benchmark, unit, runs, [], BUDGET, details)


def _table(found: Mapping[int, _Grown]) -> dict[str, dict[str, float | bool]]:
    return {
        str(size): {
            "quiet": round(one.quiet_ms, 1),
            "replacing": round(one.replacing_ms, 1),
            "added": round(one.added_ms, 1),
            "kept_up": one.kept_up,
        }
        for size, one in found.items()
    }


def _lap(name: str, command: Command, size: int, counted: int) -> _Grown:
    warm, interval = 2, INTERVALS_SECONDS[size]
    quiet = MOST_WARM * warm + counted
    course = Course(size, REPLACED / size, interval, warm, SETTLE + counted, quiet=quiet)
    found = asyncio.run(_count(name, command, course, counted))
    note(f"{name}, {size} series: {found}, {REPLACED} replaced: {found.added_ms:.1f} ms more")
    return found


async def _count(name: str, command: Command, course: Course, counted: int) -> _Grown:
    async with running(name, command, course) as stage:

        async def milliseconds(first: int) -> float:
            """Of a scrape, from the beginning of one to that of another; each is worked off before the next."""
            await stage.await_scrape(first)
            before = cpu_seconds(stage.agent.pid)
            await stage.await_scrape(first + counted)
            return (cpu_seconds(stage.agent.pid) - before) / counted * 1e3

        first, before = await stage.warm_up(course)
        started = time.monotonic()
        quiet = await milliseconds(first + 1)
        last = course.quiet + SETTLE + 1
        replacing = await milliseconds(last)
        scrapes = last + counted - first
        arrived = (await stage.counts())["samples"] - before["samples"]
        seconds = (time.monotonic() - started) / scrapes
    is_whole = abs(arrived / (scrapes * course.series) - 1) < 0.1
    return _Grown(quiet, replacing, is_whole and seconds <= TOO_SLOW * course.interval_seconds)


def _gateway_us(series: int) -> float:
    pushes = frames(Scrapes(series, 1 + GATEWAY_SAMPLES // series))
    return round(1e6 / gateway.samples_of_a_core(pushes), 4)


def _lake_us(series: int) -> float:
    return round(1e6 / lake.written_of_a_core(series, LAKE_SAMPLES // series), 4)
