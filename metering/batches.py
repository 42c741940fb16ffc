"""Which pushes are in the lake: one line of text for each record of the log that was stored.

    topic partition offset organization project collector lane epoch number part sha256

separated by tabs. `sha256` is of the body as it was pushed, as its receipt says it. Epoch, number and part are `-`
where a foreign sender gave none. Light, so that whoever only checks a proof need not load the lake's libraries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kernel.errors import InvalidInput

_FIELDS = 11


class StoredBatch(NamedTuple):
    """A push, or a part of one, as the record that the lake stored. Sorts in the order of the log."""

    topic: str
    partition: int
    offset: int
    organization: str
    project: str
    collector: str
    lane: str
    epoch: int | None
    number: int | None
    part: int | None
    sha256: str


class OffsetRange(NamedTuple):
    """Records `[first, last]` of one partition."""

    topic: str
    partition: int
    first: int
    last: int


def render_batches(batches: Iterable[StoredBatch]) -> bytes:
    """The lines, in order."""
    return b"".join(
        ("\t".join("-" if field is None else str(field) for field in batch) + "\n").encode()
        for batch in sorted(batches, key=lambda one: one[:3])
    )


def parse_batches(content: bytes, source: str) -> list[StoredBatch]:
    """The inverse. Raises InvalidInput with the line: malformed, not in order, or twice."""
    found: list[StoredBatch] = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        try:
            batch = _parse(line)
        except ValueError as error:
            raise InvalidInput.single(
                source, f"line {number}", str(error), f"{_FIELDS} fields of a batch"
            ) from error
        if found and batch[:3] <= found[-1][:3]:
            raise InvalidInput.single(source, f"line {number}", "not after the line before", "lines in order")
        found.append(batch)
    return found


def _parse(line: str) -> StoredBatch:
    fields = line.split("\t")
    if len(fields) != _FIELDS:
        raise ValueError(f"{len(fields)} fields")
    topic, partition, offset, organization, project, collector, lane, epoch, number, part, digest = fields
    if len(bytes.fromhex(digest)) != 32:
        raise ValueError(f"a sha256 of {len(digest)} digits")
    who = organization, project, collector, lane
    return StoredBatch(
        topic, int(partition), int(offset), *who, _number(epoch), _number(number), _number(part), digest
    )


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)
