"""What a thousand replaced series cost, by how many are there; and what a sample costs, by how many are there.

One target: first pages whose series stay, then pages in which 1,000 series gave way to new ones, at places drawn
anew. What the second part costs more is of those thousand. It should be the same behind 10,000 series and behind a
million.

`measure` counts the collector's work on a page in this process: reading it as it comes, rules, places, plan, frames
and what the ledger is told; between pages nothing is counted, so a busy machine does not turn it into another work.
All sizes take turns, in rounds of pages that stay and pages that change: what else the machine does in the meantime
spoils a round and not the figure, which is the median of the rounds.
`vendor` is of the peer as a process, and of the gateway and the lake, which have no such parts: their cost by
sample is shown.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from bench import gateway, lake
from bench.agents import vmagent_command
from bench.exposition import Exposition
from bench.machine import cpu_seconds, note
from bench.outcome import Budget, Outcome
from bench.pushes import Scrapes, frames
from bench.race import MOST_WARM, TOO_SLOW, Command, Course, running
from collector.left_meta import FrameMeta
from collector.policy import AllowList
from collector.policy_settings import PolicySettings
from collector.relabel import Action, RelabelRule
from collector.scrape.series import SeriesRules
from collector.scrape.state import Scrape, TargetState

REPLACED = 1_000
SIZES = (10_000, 100_000, 1_000_000)
INTERVALS_SECONDS = {10_000: 1, 100_000: 1, 1_000_000: 5}
ROUNDS = 8
COUNTED = 6  # pages of each part; a cell's keyframes are six pages apart
PEER_COUNTED = 12
GATEWAY_SAMPLES = 10_000_000
LAKE_SAMPLES = 12_000_000
SETTLE = 1  # pages of each part that are not counted
PIECE_BYTES = 256 * 1024
BUDGET = Budget(2.0)
_TEXT = "text/plain; version=0.0.4"


@dataclass(frozen=True)
class _Grown:
    """Milliseconds of processor time of a scrape."""

    quiet_ms: float
    replacing_ms: float
    kept_up: bool = True

    @property
    def added_ms(self) -> float:
        return self.replacing_ms - self.quiet_ms


def measure(*, quick: bool) -> Outcome:
    """How much more 1,000 replaced series cost behind the most series than behind the fewest: 1 is flat."""
    sizes = SIZES[:2] if quick else SIZES
    targets = {size: _Target(Exposition(size, REPLACED / size)) for size in sizes}
    gc.collect()
    gc.freeze()  # the pages' makers are not the collector's to look after
    try:
        for target in targets.values():
            target.scrape(replaces=False)
        rounds = [{size: _round(target, size) for size, target in targets.items()} for _ in range(ROUNDS)]
    finally:
        gc.unfreeze()
    return _outcome("growth", "collector", rounds)


def vendor(*, quick: bool) -> Outcome:
    """The same of vmagent, which holds nothing; `details` have the gateway's and the lake's cost by series."""
    sizes = SIZES[:2] if quick else SIZES
    counted = 5 if quick else PEER_COUNTED
    laps = {size: _lap("vmagent", vmagent_command, size, counted) for size in sizes}
    found = _outcome("growth-vendor", "vmagent", [laps])
    details = {
        **found.details,
        "gateway_us_per_sample": {str(size): _gateway_us(size) for size in sizes},
        "lake_us_per_sample": {str(size): _lake_us(size) for size in sizes},
    }
    return replace(found, details=details)


def _outcome(benchmark: str, name: str, rounds: Sequence[Mapping[int, _Grown]]) -> Outcome:
    least, most = min(rounds[0]), max(rounds[0])
    runs = [one[most].added_ms / one[least].added_ms for one in rounds]
    details: dict[str, object] = {"replaced": REPLACED, f"{name}_ms_of_a_scrape": _table(rounds)}
    unit = f"cost of {REPLACED} replaced series behind {most:,} series, over that behind {least:,}"
    is_whole = all(one.kept_up and one.added_ms > 0 for found in rounds for one in found.values())
    return Outcome(benchmark, unit, runs, [], BUDGET, details, extra_holds=is_whole)


def _table(rounds: Sequence[Mapping[int, _Grown]]) -> dict[str, dict[str, float | bool]]:
    by_size = {size: [found[size] for found in rounds] for size in rounds[0]}
    return {
        str(size): {
            "quiet": round(median(one.quiet_ms for one in found), 1),
            "replacing": round(median(one.replacing_ms for one in found), 1),
            "added": round(median(one.added_ms for one in found), 1),
            "kept_up": all(one.kept_up for one in found),
        }
        for size, found in by_size.items()
    }


def _round(target: _Target, size: int) -> _Grown:
    quiet, replacing = (
        [target.scrape(replaces=replaces) for _ in range(SETTLE + COUNTED)][SETTLE:] for replaces in (False, True)
    )
    grown = _Grown(fmean(quiet), fmean(replacing))
    note(f"collector, {size} series: {grown}, {REPLACED} replaced: {grown.added_ms:.1f} ms more")
    return grown


class _Target:
    """The state of a target under the default policy and one rule, and its next page."""

    def __init__(self, exposition: Exposition) -> None:
        rule = RelabelRule(Action.DROP, ("__name__",), regex="go_gc_.*")
        policy = AllowList(PolicySettings(), b"growth, not a key of anybody")
        labels = (("instance", "target:9091"), ("job", "milvus"))
        self._state = TargetState(
            SeriesRules(labels, False, (rule,), (), policy), honor_timestamps=True, sample_limit=0
        )
        self._exposition = exposition
        self._at_ms = 1_700_000_000_000

    def scrape(self, *, replaces: bool) -> float:
        """Milliseconds of processor time of the next page."""
        page = self._exposition.page(replaces=replaces)
        self._at_ms += 1000
        before = time.process_time()
        for made in self._read(page):
            for lane in (0, 1):
                self._store(made, lane)
        return (time.process_time() - before) * 1e3

    def _read(self, page: bytes) -> Iterator[Scrape]:
        state = self._state
        stream = state.stream(_TEXT)
        if stream is None:  # without the compiled kernel
            return state.scraped_in_parts(bytearray(page), _TEXT, self._at_ms, 0.1)
        for start in range(0, len(page), PIECE_BYTES):
            stream.add(memoryview(page)[start : start + PIECE_BYTES])
        return state.scraped_stream(stream, self._at_ms, 0.1)

    def _store(self, made: Scrape, lane: int) -> None:
        state = self._state
        state.encode(made, lane, 1)
        families = {name: (count, count) for name, count in state.families(made, lane).items()}
        FrameMeta(families, state.new_series(made, lane)).render()
        state.stored(made, lane)


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
