"""Large pages, which are read as they come, from a target to what is stored; and those that are asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from collector.exposition import PageNeeded, ReaderChoice, choose_reader
from collector.metrics import CollectorMetrics
from collector.native import KeyTable
from collector.policy import OpenPolicy
from collector.scrape.context import Lane, ScrapeContext
from collector.scrape.fetch import Fetcher
from collector.scrape.horizon import Horizon
from collector.scrape.loop import TargetLoop
from collector.scrape.series import SeriesRules
from collector.scrape.settings import ScrapeConfig
from collector.scrape.state import TargetState
from collector.scrape.target import Target
from collector.spool.options import Draft
from collector.wire.headers import PushLane
from kernel.clock import SystemClock
from tests.collector.exposing import WITHOUT_KERNEL
from tests.collector.receiving import Receiver
from tests.collector.world import Page, run_target

needs_kernel = pytest.mark.skipif(KeyTable is None, reason=WITHOUT_KERNEL)
LINES = 16_000  # over a megabyte
ROW = b'some_metric_of_a_component{collection="number %d",node="a rather long name of it"} %d\n'


def page(number: int, *, first: int = 0, extra: bytes = b"") -> bytes:
    """Its values, and where its series begin."""
    rows = b"".join(ROW % (row, row * number) for row in range(first, first + LINES))
    return b"# TYPE some_metric_of_a_component gauge\n" + extra + rows


@dataclass
class Kept:
    """What a lane was given to store, read back."""

    lane: int
    receiver: Receiver
    generation: int = 1
    values: dict[str, float | str] = field(default_factory=dict)

    async def append(self, draft: Draft, generation: int) -> int:
        for labels, _, value in self.receiver.take(self.lane, generation, draft.blocks):
            self.values[dict(labels).get("collection", dict(labels)["__name__"])] = value
        return 1


def new_state(policy: OpenPolicy) -> TargetState:
    rules = SeriesRules((("job", "j"),), False, (), (), policy)
    return TargetState(rules, honor_timestamps=True, sample_limit=0)


async def scrape_each(bodies: list[bytes]) -> tuple[list[dict[str, float | str]], int]:
    """What was stored of each body, one scrape for each; the requests."""
    clock = SystemClock()
    at = 0
    served = Page(lambda request: bodies[at])
    receiver = Receiver()
    sinks = [Kept(0, receiver), Kept(1, receiver)]
    lanes = [
        Lane(name, sink, Horizon(clock))
        for name, sink in zip((PushLane.BILLING, PushLane.BULK), sinks, strict=True)
    ]
    found = []
    async with run_target(served) as port:
        target = Target("j", f"http://127.0.0.1:{port}/metrics", (("job", "j"),), 15, 10)
        fetcher = Fetcher(ScrapeConfig(job_name="j"))
        loop = TargetLoop(target, new_state(OpenPolicy()), fetcher, ScrapeContext(clock, lanes, CollectorMetrics()))
        for at in range(len(bodies)):
            sinks[0].values.clear()
            await asyncio.wait_for(loop.scrape(), 60)
            assert loop.last_error is None or b"{" in bodies[at][-10:]
            found.append({name: value for name, value in sinks[0].values.items() if name.startswith("number")})
        await fetcher.close()
    return found, served.scrapes


@pytest.fixture
def pure() -> Iterator[None]:
    choose_reader(ReaderChoice.PURE)
    yield
    choose_reader(ReaderChoice.AUTO)


def values(number: int, first: int = 0) -> dict[str, float | str]:
    return {f"number {row}": row * number for row in range(first, first + LINES)}


async def check_each_value() -> None:
    found, requests = await scrape_each([page(1), page(2, first=5)])
    assert found == [values(1), values(2, first=5) | {f"number {row}": "stale" for row in range(5)}]
    assert requests == 2


async def test_every_value_of_large_pages_is_stored_and_each_is_asked_for_once() -> None:
    await check_each_value()


@pytest.mark.usefixtures("pure")
async def test_so_it_is_without_the_kernel() -> None:
    await check_each_value()


@needs_kernel
async def test_a_page_that_the_kernel_leaves_to_the_strict_parser_is_asked_for_once_more() -> None:
    """And then the next one is asked for whole at once, until one can be read as it comes again."""
    odd = b"  # a comment behind blanks\n"
    bodies = [page(1, extra=odd), page(2, extra=odd), page(3), page(4) + b"a{"]
    found, requests = await scrape_each(bodies)
    assert found == [values(1), values(2), values(3), dict.fromkeys(values(1), "stale")]
    assert requests == 2 + 1 + 1 + 2


@needs_kernel
async def test_a_page_with_series_whose_type_changed_is_asked_for_once_more() -> None:
    bodies = [page(1), page(2).replace(b"gauge", b"counter", 1), page(3)]
    found, requests = await scrape_each(bodies)
    assert (found, requests) == ([values(1), values(2), values(3)], 1 + 2 + 2)


@needs_kernel
def test_a_page_that_began_under_another_policy_has_to_come_once_more() -> None:
    policy = OpenPolicy()
    state = new_state(policy)
    stream = state.stream("text/plain")
    assert stream is not None
    stream.add(memoryview(b"a 1\n"))
    policy.version = "another"
    with pytest.raises(PageNeeded):
        next(state.scraped_stream(stream, 1000, 0.5))
    stream = state.stream("text/plain")
    assert stream is not None
    stream.add(memoryview(b"a "))
    stream.add(memoryview(b"2"))
    (scrape,) = state.scraped_stream(stream, 2000, 0.5)
    assert scrape.scraped == 1
