"""Who of a group reads which partition, for the adapters that keep groups themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernel.log import Record, RecordTooLarge, TopicPartition

DEFAULT_MAX_RECORD_BYTES = 1_040_000  # a body of frames (1,000,000), below Kafka's default of 1,048,588
DEFAULT_LEASE_SECONDS = 30.0
MAX_POLL_BYTES = 64 * 1024 * 1024
_HEADER_OVERHEAD_BYTES = 10


@dataclass(frozen=True, slots=True)
class Rebalance:
    """What one member does now: give back `release`, take `acquire`."""

    release: frozenset[TopicPartition]
    acquire: frozenset[TopicPartition]


def assign(
    partitions: Sequence[TopicPartition], members: Mapping[str, frozenset[str]]
) -> dict[TopicPartition, str]:
    """Each partition to one of the members (name -> topics) of its topic, evenly; the same for all who ask."""
    assigned: dict[TopicPartition, str] = {}
    for topic in sorted({source.topic for source in partitions}):
        readers = sorted(member for member, topics in members.items() if topic in topics)
        of_topic = sorted(source for source in partitions if source.topic == topic)
        if readers:
            assigned.update({source: readers[i % len(readers)] for i, source in enumerate(of_topic)})
    return assigned


def rebalance(
    member: str,
    members: Mapping[str, frozenset[str]],
    partitions: Sequence[TopicPartition],
    owners: Mapping[TopicPartition, str],
) -> Rebalance:
    """What `member` gives back and takes. A partition that a live member holds is waited for, never seized.

    `members` are the live ones, `member` among them; `owners` may name dead ones.
    """
    share = {source for source, reader in assign(partitions, members).items() if reader == member}
    held = {source for source, owner in owners.items() if owner == member}
    free = {source for source in share - held if owners.get(source) not in members}
    return Rebalance(release=frozenset(held - share), acquire=frozenset(free))


def record_bytes(record: Record) -> int:
    """What counts against `max_record_bytes`: key, value and headers with their framing."""
    size = len(record.key) + len(record.value) + _HEADER_OVERHEAD_BYTES * len(record.headers)
    for name, value in record.headers.items():
        size += len(name) + len(value)
    return size


def check_sizes(records: Sequence[Record], max_record_bytes: int) -> int:
    """The bytes of all records. Raise RecordTooLarge for the first one over the limit."""
    total = 0
    for index, record in enumerate(records):
        size = record_bytes(record)
        if size > max_record_bytes:
            raise RecordTooLarge(
                f"record {index + 1} of {len(records)} has {size} bytes; the log takes {max_record_bytes}: "
                "nothing was appended; send smaller records or raise the log's limit"
            )
        total += size
    return total
