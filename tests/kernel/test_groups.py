"""The shares of a group: everyone computes the same, every partition has one reader, none has much more."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kernel.log import TopicPartition, partition_of
from kernel.log.groups import assign, rebalance

TOPICS = {"byoc.samples": 5, "byoc.history": 3}
PARTITIONS = [TopicPartition(topic, number) for topic, count in TOPICS.items() for number in range(count)]
MEMBERS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sets(st.sampled_from(list(TOPICS)), min_size=1).map(frozenset), min_size=1
)
OWNERS = st.dictionaries(st.sampled_from(PARTITIONS), st.sampled_from("abcdefghxyz"))


@given(MEMBERS)
def test_every_partition_that_someone_reads_has_one_reader_of_its_topic(members: dict[str, frozenset[str]]) -> None:
    assigned = assign(PARTITIONS, members)
    read = {topic for topics in members.values() for topic in topics}
    assert set(assigned) == {source for source in PARTITIONS if source.topic in read}
    assert all(source.topic in members[reader] for source, reader in assigned.items())
    for topic in read:
        readers = [name for name, topics in members.items() if topic in topics]
        shares = Counter(reader for source, reader in assigned.items() if source.topic == topic)
        counts = [shares[name] for name in readers]
        assert max(counts) - min(counts) <= 1


@given(MEMBERS, OWNERS)
def test_the_group_settles_and_no_live_reader_is_robbed(
    members: dict[str, frozenset[str]], owners: dict[TopicPartition, str]
) -> None:
    owners = dict(owners)
    for _ in range(3):
        for member in sorted(members):
            step = rebalance(member, members, PARTITIONS, owners)
            assert all(owners[source] == member for source in step.release)
            assert all(owners.get(source) not in members for source in step.acquire)
            owners = {source: owner for source, owner in owners.items() if source not in step.release}
            owners.update(dict.fromkeys(step.acquire, member))
    live = {source: owner for source, owner in owners.items() if owner in members}
    assert live == assign(PARTITIONS, members)


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_a_key_has_one_partition(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == partition_of(bytes(key), partitions)
    assert 0 <= partition_of(key, partitions) < partitions


def test_the_partition_of_a_key_never_changes() -> None:
    """Another rule would part a key's records on a log that exists; the number is CRC-32's published check."""
    assert partition_of(b"123456789", 1000) == 0xCBF43926 % 1000
    assert partition_of(b"", 7) == 0
