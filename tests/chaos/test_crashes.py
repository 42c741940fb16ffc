"""`kill -9` of the real processes while a real collector ships: every value that was handed out is there, once.

Nothing asks the product how it fared: the targets remember what they handed out, the rows are read from the files.
What is proven closer to the code: tests/collector (each step of spool and push), tests/gateway (one push),
tests/lake (each step of a commit), tests/alerts (a page), tests/provisioner (each step of an operation).
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from console.wiring import Vendor
from kernel.log import StoredRecord
from metering.lake.api import Lake, LakeInfo
from metering.record import LIVE_TOPIC, decode_header
from tests.chaos.conftest import SCALE_OUT
from tests.chaos.length import LIMIT_SECONDS
from tests.chaos.lossy import Loss
from tests.chaos.program import ROOT, until
from tests.chaos.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]

STEPS = [
    "gateway.appended:20",  # appended but not answered
    "lake.series-committed:3",
    "lake.samples-committed:3",  # committed, and nobody was told
    "lake.files-written:3",  # files written but not committed
]
FENCED = "byoc_lake_fenced_commits_total"


def test_a_vendor_killed_at_each_step_and_a_zombie(world: World) -> None:
    """One life after the other; the last wakes up when its successor has committed what it had in hand."""
    world.collector.start()
    for step in STEPS:
        world.vendor.start(crash_at=step)
        world.vendor.died_at(step.partition(":")[0])
        world.expect_clean(after=step)
    assert max(pushes_in_log(world).values()) > 1, "no push was appended twice: the first kill proved nothing"

    world.collector.send(signal.SIGSTOP)  # so that nothing is under way but the commit
    world.vendor.start(crash_at="lake.horizon-stored", crash_signal=signal.SIGSTOP)
    world.vendor.halted_at("lake.horizon-stored")
    before = world.look(info)
    assert run_successor(world) > 0
    after = world.look(info)
    assert after.rows > before.rows

    world.vendor.send(signal.SIGCONT)
    until("the zombie to be fenced", lambda: world.vendor_metric(FENCED) == 1.0)
    assert world.look(info) == after
    world.collector.send(signal.SIGCONT)
    world.drained()
    world.expect_clean(after="the zombie")
    assert world.look(info).missing_pushes == 0


def test_a_collector_killed_at_any_moment(world: World) -> None:
    """Some kills come in the instant after a page was handed out, the others at random."""
    world.ensure_running()
    moments = random.Random(17)
    for round_number in range(5):
        page = len(world.targets[0].pages)
        until("pages", lambda: len(world.targets[0].pages) >= page + moments.randint(1, 3))  # noqa: B023
        if round_number % 2:
            deadline = world.now_ms() + moments.randint(0, 900)
            until("the moment", lambda: world.now_ms() >= deadline)  # noqa: B023
        world.kill_collector()
        world.collector.start()
    world.drained()
    world.expect_clean(after="five kills of the collector")
    assert world.look(info).missing_pushes == 0


@pytest.mark.parametrize("storage", [SCALE_OUT], indirect=True)
@pytest.mark.parametrize("server", ["kafka", "postgres", "s3"])
def test_a_server_that_is_away_for_a_while(world: World, server: str) -> None:
    """The vendor's process waits for it and goes on; nobody has to restart it."""
    world.ensure_running()
    process, vendor = world.storage.servers[server], world.vendor.pid
    process.kill()
    page = len(world.targets[0].pages)
    until("pages", lambda: len(world.targets[0].pages) >= page + 4)
    process.start()
    world.drained()
    world.expect_clean(after=f"{server} was away")
    assert world.vendor.pid == vendor


@pytest.mark.parametrize("storage", [SCALE_OUT], indirect=True)
def test_commits_whose_answers_are_lost(world: World) -> None:
    """Of the lake's catalog and of the vendor's own database alike: some were done, some never arrived."""
    world.ensure_running()
    wire, vendor = world.storage.wire, world.vendor.pid
    assert wire is not None
    for only in (b"UPDATE iceberg_tables", b""):
        wire.only = only
        wire.losses += [Loss.ANSWER, Loss.REQUEST] * 4
        until("all the losses", lambda: not wire.losses)
    world.drained()
    world.expect_clean(after="lost commits")
    assert world.vendor.pid == vendor
    assert "commit_outcome_unknown" in world.vendor.said()


async def info(_: Vendor, lake: Lake) -> LakeInfo:
    return await lake.info()


def pushes_in_log(world: World) -> Counter[object]:
    """How often each push of the collector was appended."""

    async def read(vendor: Vendor, _: Lake) -> Sequence[StoredRecord]:
        log = await vendor.log()
        end = sum((await log.end_offsets(LIVE_TOPIC)).values())
        reader = await log.reader("witness", [LIVE_TOPIC], since_ms=0)
        records: list[StoredRecord] = []
        while len(records) < end:
            records += await reader.poll(500, 0.2)
        await reader.close()
        return records

    return Counter(decode_header(record).sequence for record in world.look(read))


def run_successor(world: World) -> int:
    """Samples stored by a second writer, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.successor", str(world.config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(json.loads(done.stdout.splitlines()[-1])["samples_stored"])
