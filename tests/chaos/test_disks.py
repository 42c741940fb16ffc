"""Disks that fill while samples flow: the collector's spool, and the vendor's lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from collector.spool.gaps import Gap, GapReason, GapRecords
from tests.chaos.disk import SmallDisk, small_disk
from tests.chaos.length import LIMIT_SECONDS
from tests.chaos.program import until
from tests.chaos.proof import verify
from tests.chaos.storage import EMBEDDED
from tests.chaos.world import World, open_world
from tests.services.fixtures import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]


@dataclass(frozen=True)
class Disks:
    world: World
    spool: SmallDisk
    lake: SmallDisk


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    folder = tmp_path_factory.mktemp("disks")
    with ExitStack() as stack:
        services = Services(stack)
        lake = services.start(small_disk(folder / "warehouse", 64))
        storage = replace(EMBEDDED, deployment={**EMBEDDED.deployment, "lake": {"warehouse": lake.folder.as_uri()}})
        world = stack.enter_context(open_world(folder, storage))
        spool = services.start(small_disk(world.collector_folder / "spool", 48))
        yield Disks(world, spool, lake)


def pages(world: World, more: int) -> None:
    before = len(world.targets[0].pages)
    until(f"{more} pages", lambda: len(world.targets[0].pages) >= before + more)


def test_a_full_lake_waits_and_loses_nothing(disks: Disks) -> None:
    world = disks.world
    world.ensure_running()
    disks.lake.fill()
    until("the lake to notice", lambda: '"lake_waits"' in world.vendor.said())
    pages(world, 4)
    disks.lake.free()
    world.drained()
    world.expect_clean(after="a full lake")


def test_what_a_full_spool_could_not_take_stands_in_a_gap_record(disks: Disks) -> None:
    """The gateway is away, so the disk is all there is; every page is in the lake or in a gap, as a whole."""
    world = disks.world
    world.ensure_running()
    world.vendor.kill()
    samples = len(world.targets[0].pages[0].samples)

    def a_page_did_not_fit() -> bool:
        disks.spool.fill()  # again: the lane that had a gap gave up its reserve, the other lane would live on it
        return sum(gap.samples or 0 for gap in gaps(world)) >= samples

    until("a page that did not fit", a_page_did_not_fit)
    pages(world, 4)
    disks.spool.free()
    pages(world, 2)
    world.vendor.start()
    world.drained()
    _, verdict = world.judge()
    assert not verdict.duplicated, verdict
    assert not verdict.different, verdict
    assert verdict.lost, "nothing was lost: the disk was not full"
    lost_pages = {text for text in verdict.lost if text.startswith("page (")}
    assert lost_pages == set(verdict.lost), f"parts of pages are lost: {verdict.lost}"
    recorded = gaps(world)
    assert {gap.reason for gap in recorded} == {GapReason.DISK}
    assert sum(gap.samples or 0 for gap in recorded) >= samples * len(lost_pages), (recorded, verdict.lost)
    world.expect_proof("a full spool", {})  # what was not written never had a number
    unwritten = verify(world.collector_config).unwritten
    assert sum(unwritten.values()) == sum(gap.samples or 0 for gap in recorded)


def gaps(world: World) -> list[Gap]:
    spool = world.collector_folder / "spool"
    return [gap for lane in ("billing", "bulk") for gap in GapRecords(spool / lane).load()]
