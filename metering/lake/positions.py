"""Positions in a snapshot's summary, and in the names of data files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from kernel.log import TopicPartition
from metering.lake.errors import LakeDamaged

POSITIONS = "byoc.positions"
HORIZON = "byoc.horizon-sha256"
COMMIT = "byoc.commit"
REPLAY = "byoc.replay-from"

_NAME = re.compile(
    r"(?P<topic>.+)-(?P<partition>\d+)-(?P<first>\d{20})-(?P<last>\d{20})-(?P<sha256>[0-9a-f]{64})\.parquet"
)

_COMPACTED = re.compile(r"compacted-(?P<lineage>[0-9a-f]{64})-(?P<sha256>[0-9a-f]{64})\.parquet")


def render_positions(positions: Mapping[TopicPartition, int]) -> str:
    """`{"topic/partition": next offset}` as compact JSON."""
    named = {f"{source.topic}/{source.partition}": offset for source, offset in positions.items()}
    return json.dumps(named, sort_keys=True, separators=(",", ":"))


def parse_positions(text: str) -> dict[TopicPartition, int]:
    """The inverse of `render_positions`. Raises LakeDamaged."""
    try:
        parts = {name.rpartition("/"): offset for name, offset in json.loads(text).items()}
        return {TopicPartition(topic, int(number)): int(offset) for (topic, _, number), offset in parts.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise LakeDamaged(f"malformed positions in the table: {text[:200]!r}") from error


class Standing(NamedTuple):
    """The next offset to store, and where a reader begins that is to have all state up to there."""

    position: int
    replay_from: int


class FileName(NamedTuple):
    """A data file says which records it was made from, `[first, last]`, and the hash of its bytes."""

    source: TopicPartition
    first: int
    last: int
    sha256: str

    def __str__(self) -> str:
        topic, partition = self.source
        return f"{topic}-{partition}-{self.first:020d}-{self.last:020d}-{self.sha256}.parquet"


class CompactedName(NamedTuple):
    """A file that others were merged into: the hash of the list of those, and of its own bytes."""

    lineage: str
    sha256: str

    def __str__(self) -> str:
        return f"compacted-{self.lineage}-{self.sha256}.parquet"


def parse_compacted_name(path: str) -> CompactedName | None:
    """The name at the end of a path; None when it is not that of a compacted file."""
    found = _COMPACTED.fullmatch(path.rpartition("/")[2])
    return CompactedName(found["lineage"], found["sha256"]) if found else None


def file_sha256(path: str) -> str | None:
    """The hash of its bytes that a data file's name carries; None when the lake did not write it."""
    name = parse_file_name(path) or parse_compacted_name(path)
    return name.sha256 if name else None


def parse_file_name(path: str) -> FileName | None:
    """The name at the end of a path; None when it is not one of the writer's."""
    found = _NAME.fullmatch(path.rpartition("/")[2])
    if not found:
        return None
    source = TopicPartition(found["topic"], int(found["partition"]))
    return FileName(source, int(found["first"]), int(found["last"]), found["sha256"])
