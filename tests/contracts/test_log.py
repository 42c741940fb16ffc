"""What every log must do: run on memory, SQLite and Apache Kafka."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import pytest

from kernel.log import (
    LeaseLost,
    Position,
    RecordTooLarge,
    StoredRecord,
    TopicNotFound,
    TopicPartition,
    partition_of,
)
from tests.contracts.log_rigs import LogRig, append_surely, hold, read, read_rest, record


def by_key(records: Iterable[StoredRecord]) -> dict[bytes, list[bytes]]:
    grouped: dict[bytes, list[bytes]] = defaultdict(list)
    for stored in records:
        grouped[stored.key].append(stored.value)
    return dict(grouped)


def next_offsets(records: Iterable[StoredRecord]) -> dict[TopicPartition, int]:
    return {stored.source: stored.offset + 1 for stored in records}


async def test_records_come_back_as_they_went_in_each_key_in_order(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 4})
    writer = await rig.log.writer()
    sent = [record(f"k{i % 7}", f"v{i}", number=bytes([i, 255 - i]), empty=b"") for i in range(60)]
    positions = [await writer.append(rig.topic, sent[start : start + 9]) for start in range(0, 60, 9)]
    found = await read(await rig.log.reader(rig.group, [rig.topic]), 60)

    assert by_key(found) == {
        f"k{k}".encode(): [f"v{i}".encode() for i in range(60) if i % 7 == k] for k in range(7)
    }
    assert all(stored.headers == sent[int(stored.value[1:])].headers for stored in found)
    assert all(stored.partition == partition_of(stored.key, 4) for stored in found)
    at = {Position(stored.topic, stored.partition, stored.offset): stored.value for stored in found}
    flat = [position for call in positions for position in call]
    assert [at[position] for position in flat] == [one.value for one in sent]


async def test_concurrent_appends_keep_the_order_of_the_calls(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 2})
    writer = await rig.log.writer()
    calls = [[record(f"k{i % 3}", f"{i:04}-{part}" + "x" * 3000) for part in range(3)] for i in range(80)]
    answers = await asyncio.gather(*(writer.append(rig.topic, call) for call in calls))

    assert len({position for answer in answers for position in answer}) == 240
    found = by_key(await read(await rig.log.reader(rig.group, [rig.topic]), 240))
    for key, values in found.items():
        if rig.log.__class__.__name__ == "KafkaLog":  # it interleaves calls that run at once, never reorders one
            for i in range(80):
                of_call = [value for value in values if value.startswith(b"%04d-" % i)]
                assert of_call == sorted(of_call)
        else:
            assert values == sorted(values), key
    assert sum(map(len, found.values())) == 240


async def test_a_crash_between_store_and_commit_is_redelivered(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 1})
    writer = await rig.log.writer()
    await writer.append(rig.topic, [record("k", f"{i}") for i in range(4)])
    await rig.crash_between_store_and_commit()
    successor = await rig.another().reader(rig.group, [rig.topic])
    assert [stored.value for stored in await read(successor, 2)] == [b"2", b"3"]


async def test_a_reader_that_lost_its_partition_in_mid_batch_can_not_commit(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 2})
    writer = await rig.log.writer()
    await writer.append(rig.topic, [record(f"k{i}", f"{i}") for i in range(20)])
    slow = await rig.log.reader(rig.group, [rig.topic])
    batch = await read(slow, 20)
    await rig.lapse()
    other = await rig.another().reader(rig.group, [rig.topic])
    taken = await read(other, 1)

    with pytest.raises(LeaseLost):
        await slow.commit(next_offsets(batch))
    await other.commit(next_offsets(taken))  # what the fenced commit stored would now be passed by
    await slow.close()
    await other.close()
    rest = await read(await rig.log.reader(rig.group, [rig.topic]), 20 - len(taken))
    assert by_key([*taken, *rest]) == by_key(batch)


async def test_readers_of_a_group_share_the_partitions(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 4})
    one = await rig.log.reader(rig.group, [rig.topic])
    await hold(one, 4)
    joining = asyncio.create_task(rig.another().reader(rig.group, [rig.topic]))
    while not joining.done():  # Kafka's waits for the first to agree
        await one.poll(10, 0.05)
        await asyncio.sleep(0.01)
    two = await joining
    both = asyncio.gather(hold(one, 2), hold(two, 2))
    await both
    assert one.assignment() | two.assignment() == {TopicPartition(rig.topic, i) for i in range(4)}

    await two.close()
    await hold(one, 4)


async def test_a_restart_in_mid_produce_loses_nothing_and_keeps_the_order(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 2})
    half = asyncio.Event()

    async def produce() -> None:
        writer = await rig.log.writer()
        for i in range(40):
            writer = await append_surely(rig, writer, [record(f"k{part}", f"{i:02}") for part in range(4)])
            if i == 15:
                half.set()

    producing = asyncio.create_task(produce())
    await half.wait()
    await rig.restart()
    await producing
    found = by_key(await read_rest(await rig.log.reader(rig.group, [rig.topic])))
    for values in found.values():
        firsts = list(dict.fromkeys(values))  # an append whose outcome was unknown may be there twice
        assert firsts == [b"%02d" % i for i in range(40)]
    assert len(found) == 4


async def test_committed_positions_survive_a_restart(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 1})
    await (await rig.log.writer()).append(rig.topic, [record("k", f"{i}") for i in range(10)])
    reader = await rig.log.reader(rig.group, [rig.topic])
    await read(reader, 10)
    await reader.commit({TopicPartition(rig.topic, 0): 7})
    await reader.close()
    await rig.restart()
    again = await rig.log.reader(rig.group, [rig.topic])
    assert [stored.offset for stored in await read(again, 3)] == [7, 8, 9]


async def test_a_record_over_the_limit_is_refused_and_nothing_is_appended(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 1})
    writer = await rig.log.writer()
    limit = writer.max_record_bytes
    assert 100_000 < limit < 2_000_000
    with pytest.raises(RecordTooLarge, match="nothing was appended"):
        await writer.append(rig.topic, [record("k", "small"), record("k", b"x" * limit)])
    assert await rig.log.end_offsets(rig.topic) == {TopicPartition(rig.topic, 0): 0}

    await writer.append(rig.topic, [record("k", b"x" * (limit - 1 - 18), h=b"1234567")])  # exactly the limit
    (stored,) = await read(await rig.log.reader(rig.group, [rig.topic]), 1)
    assert len(stored.value) == limit - 19


async def test_a_reader_since_a_time_stands_alone(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 3})
    writer = await rig.log.writer()
    await writer.append(rig.topic, [record(f"k{i}", "early") for i in range(9)])
    await rig.tick()
    await writer.append(rig.topic, [record(f"k{i}", "late") for i in range(9)])
    member = await rig.log.reader(rig.group, [rig.topic])
    everything = await read(member, 18)
    since_ms = min(stored.timestamp_ms for stored in everything if stored.value == b"late")

    alone = await rig.log.reader(rig.group, [rig.topic], since_ms=since_ms)
    assert alone.assignment() == member.assignment() == {TopicPartition(rig.topic, i) for i in range(3)}
    assert {stored.value for stored in await read(alone, 9)} == {b"late"}
    with pytest.raises(LeaseLost):
        await alone.commit({TopicPartition(rig.topic, 0): 1})
    await member.commit(next_offsets(everything))  # it took nothing from the group

    future = await rig.log.reader(rig.group, [rig.topic], since_ms=since_ms + 3_600_000)
    assert len(await future.poll(10, 0.05)) == 0
    assert len(await future.poll(10, 0.05)) == 0
    await writer.append(rig.topic, [record("k0", "new")])
    assert [stored.value for stored in await read(future, 1)] == [b"new"]


async def test_end_offsets_are_the_next_to_be_given(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 2})
    writer = await rig.log.writer()
    positions = await writer.append(rig.topic, [record(f"k{i}", "v") for i in range(12)])
    counted = {TopicPartition(rig.topic, number): 0 for number in range(2)}
    for position in positions:
        counted[TopicPartition(position.topic, position.partition)] += 1
    assert await rig.another().end_offsets(rig.topic) == counted


async def test_an_existing_topic_stays_as_it_is(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 2})
    await rig.another().ensure_topics({rig.topic: 5})
    assert len(await rig.log.end_offsets(rig.topic)) == 2


async def test_an_unknown_topic_is_named(rig: LogRig) -> None:
    writer = await rig.log.writer()
    with pytest.raises(TopicNotFound, match=rig.topic):
        await writer.append(rig.topic, [record("k", "v")])
    with pytest.raises(TopicNotFound, match=rig.topic):
        await rig.log.reader(rig.group, [rig.topic])
    with pytest.raises(TopicNotFound, match=rig.topic):
        await rig.log.end_offsets(rig.topic)


async def test_seek_reads_again_and_passes_by_what_is_not_held(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 1})
    await (await rig.log.writer()).append(rig.topic, [record("k", f"{i}") for i in range(5)])
    reader = await rig.log.reader(rig.group, [rig.topic])
    await read(reader, 5)
    await reader.seek({TopicPartition(rig.topic, 0): 3, TopicPartition(rig.topic, 9): 1})
    assert [stored.offset for stored in await read(reader, 2)] == [3, 4]


async def test_poll_gives_at_most_what_was_asked_for_and_nothing_in_time(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 2})
    writer = await rig.log.writer()
    reader = await rig.log.reader(rig.group, [rig.topic])
    assert len(await reader.poll(10, 0.05)) == 0
    await writer.append(rig.topic, [record(f"k{i}", "v") for i in range(30)])
    found: list[StoredRecord] = []
    while len(found) < 30:
        part = await reader.poll(4, 1.0)
        assert len(part) <= 4
        found += part
    assert len({(stored.partition, stored.offset) for stored in found}) == 30


async def test_a_waiting_reader_gets_what_another_process_appends(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 1})
    reader = await rig.log.reader(rig.group, [rig.topic])
    await hold(reader, 1)
    waiting = asyncio.create_task(read(reader, 1))
    await (await rig.another().writer()).append(rig.topic, [record("k", "v")])
    assert [stored.value for stored in await waiting] == [b"v"]


async def test_what_is_closed_twice_stays_closed(rig: LogRig) -> None:
    await rig.log.ensure_topics({rig.topic: 1})
    writer, reader = await rig.log.writer(), await rig.log.reader(rig.group, [rig.topic])
    for part in (reader, writer, rig.log):
        await part.close()
        await part.close()
    assert reader.assignment() == frozenset()
