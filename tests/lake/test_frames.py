"""Own frames in the log: whatever the writer has of them in memory when it stops, its successor reads on."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.log import Log, StoredRecord, TopicPartition
from kernel.log.memory import MemoryLog
from metering.lake.api import Lake
from metering.lake.intake import Intake, Pending
from metering.lake.positions import Standing
from metering.lake.series import SeriesIndex
from metering.record import LIVE_TOPIC
from metering.refusal import REFUSALS_TOPIC, decode_refusal
from tests.effort import costly
from tests.lake.crash_world import PLACES, ended, start
from tests.lake.frames_world import Sample, Sender, append
from tests.lake.places import open_places
from tests.lake.setting import DAY, T0, memory_log, open_lake, writer_of

SOURCE = TopicPartition(LIVE_TOPIC, 0)


async def stored_samples(lake: Lake) -> list[Sample]:
    table = await lake.scan("acme", DAY)
    bits = table.column("value").to_numpy().view(np.uint64).tolist()
    labels: list[Any] = table.column("labels").to_pylist()
    times: list[Any] = table.column("timestamp_ms").to_pylist()
    return list(zip(labels, times, bits, strict=True))


async def assert_exactly(lake: Lake, *senders: Sender) -> None:
    """Every sample is there, once, in the files too."""
    expected = sorted(sample for sender in senders for sample in sender.samples)
    assert sorted(await stored_samples(lake)) == expected
    info = await lake.info()
    assert (info.rows, info.missing_pushes) == (len(expected), 0)


async def test_a_writer_can_stop_and_begin_again_at_any_record(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    sender = Sender()
    for _ in range(11):
        await append(log, sender.push())
        await writer_of(lake, log).drain()  # a new one each time: it knows what the log tells it
    await assert_exactly(lake, sender)
    state = lake.tables.samples()
    assert state.positions[SOURCE] == 11
    assert state.replay_from[SOURCE] == 0
    assert [found async for found in lake.objects.list("dead-letter/")] == []


async def test_a_group_that_rests_is_left_behind(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    sender = Sender()
    await append(log, *(sender.push() for _ in range(4)))
    await writer_of(lake, log).drain()
    sender.received_ms += 3 * 3_600_000
    await append(log, *(sender.push() for _ in range(2)))
    await writer_of(lake, log).drain()
    assert lake.tables.samples().replay_from[SOURCE] == 4
    await append(log, sender.push())
    await writer_of(lake, log).drain()
    await assert_exactly(lake, sender)


async def test_pushes_that_come_again_and_other_collectors_beside_them_change_nothing(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    one, two = Sender(), Sender(collector="col-b")
    for turn in range(9):
        await append(log, one.push(), two.push())
        if turn % 3 == 2:
            await append(log, *one.records[-2:], two.records[-1])
            await writer_of(lake, log, commit_samples=7).drain()
    table = await lake.scan("acme", DAY)
    assert table.num_rows == len(one.samples) + len(two.samples)
    assert set(await stored_samples(lake)) == one.samples | two.samples
    assert (await lake.info()).rows == table.num_rows


async def test_a_frame_that_builds_on_what_is_not_there_is_refused_and_told(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    sender = Sender()
    await append(log, sender.push())
    sender.push(sends=False)  # never arrives, and brings series that the next ones have
    poisoned = sender.push(sends=False)
    broken = dataclasses.replace(poisoned, value=b"nothing that we know")
    await append(log, poisoned, broken)
    await writer_of(lake, log).drain()
    refused = [decode_refusal(record) for record in log.stored(TopicPartition(REFUSALS_TOPIC, 0))]
    assert {(each.sequence.number, each.header.sha256) for each in refused} >= {
        (3, poisoned.headers["sha256"].decode())
    }
    assert len([found async for found in lake.objects.list("dead-letter/")]) == 2
    assert (await lake.info()).missing_pushes == 2
    # The collector begins a new group, as after any 409, and nothing else is lost.
    sender.number = 3
    for target in sender.targets:
        target.encoder.reset()
    await append(log, sender.push())
    await writer_of(lake, log).drain()
    assert sender.samples <= set(await stored_samples(lake))


def stored(sender: Sender) -> list[StoredRecord]:
    return [
        StoredRecord(*SOURCE, at, T0, record.key, record.value, record.headers)
        for at, record in enumerate(sender.records)
    ]


def content(pending: Pending, index: SeriesIndex) -> list[tuple[bytes, int, int]]:
    return sorted(
        (each.tobytes(), at, bit)
        for listed in pending.rows.values()
        for rows in listed
        for each, at, bit in zip(
            index.ids(rows.slots), rows.times().tolist(), rows.values.view(np.uint64).tolist(), strict=True
        )
    )


@costly(40)
@given(pushes=st.integers(2, 14), group_of=st.integers(1, 6), cuts=st.sets(st.integers(1, 13), max_size=4))
def test_wherever_commits_fall_the_rows_are_the_same(pushes: int, group_of: int, cuts: set[int]) -> None:
    sender = Sender(group_of=group_of)
    for _ in range(pushes):
        sender.push()
    records = stored(sender)
    whole = Intake(SeriesIndex(), days_per_record=9)
    whole.begin({SOURCE: Standing(0, 0)})
    whole.admit(records)
    found: list[tuple[bytes, int, int]] = []
    standing, horizon = Standing(0, 0), whole.horizon
    for cut in [*sorted(each for each in cuts if each < pushes), pushes]:
        intake = Intake(SeriesIndex(), days_per_record=9)
        intake.horizon = horizon
        intake.begin({SOURCE: standing})
        intake.admit(records[standing.replay_from : cut])
        pending = intake.pending[SOURCE]
        assert (pending.first, pending.following, pending.dead) == (standing.position, cut, [])
        found += content(pending, intake.series)
        standing, horizon = Standing(cut, intake.replay_from(SOURCE)), horizon.with_states(pending.states)
    assert sorted(found) == content(whole.pending[SOURCE], whole.series)


async def fill(log: Log, sender: Sender, count: int) -> None:
    await append(log, *(sender.push() for _ in range(count)))


@pytest.mark.slow
async def test_killed_at_every_step_a_successor_resumes_in_the_middle_of_a_group(tmp_path: Path) -> None:
    places = {"folder": str(tmp_path)}
    async with open_places(places) as (log, lake):
        assert not isinstance(log, MemoryLog)
        sender = Sender(group_of=5)
        for place in PLACES:
            await fill(log, sender, 2)
            await ended(start(places, crash_at=place, mode="drain"), -signal.SIGKILL)
        await fill(log, sender, 1)
        await writer_of(lake, log).drain()
        await assert_exactly(lake, sender)
