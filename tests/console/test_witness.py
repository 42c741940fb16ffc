"""The witness must see a batch that is missing and one that is there twice, or it proves nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import aiohttp
from aiohttp import web

from console.demo.witness import Row, Scrape, Witness, compare
from kernel.clock import SystemClock

ALLOWED = re.compile(r"up|milvus_.*|byoc_.*")
ATTACHED = frozenset({"job", "instance", "organization", "project"})
INSTANCE = "127.0.0.1:9091"


def body(scrape: int) -> str:
    """A body as a target serves it: one counter without `_total`, one gauge, one series that may not leave."""
    return (
        "# TYPE milvus_requests counter\n"
        f'milvus_requests{{status="success",empty=""}} {scrape}\n'
        "# TYPE milvus_lag gauge\n"
        f"milvus_lag {scrape / 10}\n"
        f"secret_names{{collection='payroll'}} 1\n".replace("'", '"')
    )


def scrapes() -> list[Scrape]:
    return [Scrape(INSTANCE, served_ms=1000 * number + 3, body=body(number)) for number in range(1, 6)]


def rows(numbers: Iterator[int] | range) -> list[Row]:
    """What the lake would hold of those scrapes, with the labels that shipping adds."""
    attached = (("instance", INSTANCE), ("job", "milvus"), ("organization", "org-a"), ("project", "org-a-prod"))
    found: list[Row] = []
    for number in numbers:
        at_ms = 1000 * number
        for name, labels, value in (
            ("up", (), 1.0),
            ("milvus_requests", (("status", "success"),), float(number)),
            ("milvus_lag", (), number / 10),
        ):
            found.append((tuple(sorted((("__name__", name), *labels, *attached))), at_ms, value))
    return found


def judge(stored: list[Row]) -> tuple[int, int, int, int, int]:
    verdict = compare(scrapes(), stored, allowed=ALLOWED, attached=lambda _: ATTACHED)
    return verdict.scraped, verdict.stored, verdict.lost, verdict.duplicated, verdict.different


def test_a_whole_lake_is_whole() -> None:
    assert judge(rows(range(1, 6))) == (10, 10, 0, 0, 0)


def test_a_batch_that_was_removed_is_lost() -> None:
    assert judge(rows(iter([1, 2, 4, 5]))) == (10, 8, 2, 0, 0)


def test_a_batch_that_was_doubled_is_duplicated() -> None:
    assert judge([*rows(range(1, 6)), *rows(iter([2]))]) == (10, 10, 0, 2, 0)


def test_both_at_once() -> None:
    assert judge([*rows(iter([1, 2, 3, 5])), *rows(iter([1]))]) == (10, 8, 2, 2, 0)


def test_another_value_is_seen() -> None:
    changed = [
        (labels, at, value + 1 if at == 3000 and value != 1 else value) for labels, at, value in rows(range(1, 6))
    ]
    assert judge(changed) == (10, 10, 0, 0, 2)


def test_one_sample_is_enough() -> None:
    whole = rows(range(1, 6))
    assert judge(whole[:4] + whole[5:]) == (10, 9, 1, 0, 0)


def test_a_scrape_that_the_collector_calls_failed_was_not_scraped() -> None:
    """Its body was served and never read: `up` is 0 at that time, and no sample is owed."""
    failed = [
        (labels, at, 0.0) if dict(labels)["__name__"] == "up" and at == 2000 else (labels, at, value)
        for labels, at, value in rows(range(1, 6))
        if at != 2000 or dict(labels)["__name__"] == "up"
    ]
    assert judge(failed) == (8, 8, 0, 0, 0)


async def test_a_hushed_witness_hands_out_no_body_and_waits_for_the_one_under_way() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.Response(text="up 1\n")

    target = web.Application()
    target.add_routes([web.get("/metrics", slow)])
    runner = web.AppRunner(target)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    witness = Witness(SystemClock())
    url = f"http://{await witness.start()}/metrics?target=127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            under_way = asyncio.create_task(session.get(url))
            await asked.wait()
            hush = asyncio.create_task(witness.hush())
            await asyncio.sleep(0.2)
            async with session.get(url) as refused:
                assert refused.status == 503
            assert not hush.done()
            may_answer.set()
            assert (await under_way).status == 200
            await hush
            assert len(witness.scrapes) == 1
    finally:
        await witness.close()
        await runner.cleanup()
