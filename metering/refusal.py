"""A record that was acknowledged and can't be stored: what the lake says of it, and the gateway to its collector.

The refusals' topic holds the refused record's own key and headers, so that one collector's refusals stand in one
partition, in order, with a `reason` beside them and no value.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.errors import DeadLetter, truncate
from kernel.log import Record, StoredRecord
from metering.record import PART_STRIDE, BatchHeader, Sequence, decode_header

REFUSALS_TOPIC = "byoc.refusals"
_REASON = "reason"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused record. `offset`: its place among the refusals of its collector; `refused_ms`: the log's time."""

    header: BatchHeader
    sequence: Sequence
    reason: str
    refused_ms: int
    offset: int

    @property
    def push_part(self) -> int:
        """The part of the push, of which the record held a piece."""
        return self.sequence.part // PART_STRIDE


def refusal_record(refused: StoredRecord, reason: str) -> Record:
    """What the lake appends to the refusals' topic for a record that it can't store."""
    return Record(refused.key, b"", {**refused.headers, _REASON: truncate(reason).encode()})


def decode_refusal(record: StoredRecord) -> Refusal:
    """The refusal in a record of the topic. Raises DeadLetter, also for a foreign sender's: it has no name."""
    header = decode_header(record)
    if header.sequence is None:
        raise DeadLetter("a refusal of a push without a number")
    try:
        reason = record.headers[_REASON].decode()
    except (KeyError, ValueError) as error:
        raise DeadLetter(f"a refusal with malformed headers: {error!r}") from error
    return Refusal(header, header.sequence, reason, record.timestamp_ms, record.offset)
