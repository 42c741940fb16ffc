"""Records into pending rows, per partition: drop what the horizon holds, decode the rest, put aside what can't be.

Nothing here reads a clock or does I/O; the same records on the same horizon always give the same pending rows. Own
frames build on each other within a group, so a partition is read from the first record of the oldest group that is
still alive; up to the lake's position that gives state alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernel.errors import DeadLetter, Refuse
from kernel.ids import Tenant
from kernel.log import StoredRecord, TopicPartition
from metering.batches import StoredBatch
from metering.gaps import decode_gaps
from metering.lake.batches import stored_batch
from metering.lake.beside_rows import BesideMemory, PendingBeside
from metering.lake.decode import Decoded, Decoder
from metering.lake.epochs import Judgement
from metering.lake.horizon import Horizon, Source, SourceState, advance, give_up, judge, refuse
from metering.lake.pace import HourEnds
from metering.lake.positions import Standing
from metering.lake.rows import Rows
from metering.lake.series import SeriesIndex
from metering.record import BatchHeader, RecordFormat, decode_header


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that can't be stored, and why. `is_numbered`: a collector waits to hear of it."""

    record: StoredRecord
    reason: str
    is_numbered: bool = False


@dataclass
class Pending:
    """What was read of one partition since the last commit: offsets `[first, following)`."""

    first: int
    following: int
    rows: dict[Tenant, list[Rows]] = field(default_factory=dict)
    beside: PendingBeside = field(default_factory=PendingBeside)
    states: dict[Source, SourceState] = field(default_factory=dict)
    dead: list[DeadRecord] = field(default_factory=list)
    batches: list[StoredBatch] = field(default_factory=list)  # the records that were taken
    samples: int = 0
    size_bytes: int = 0
    ends_an_hour: bool = False  # a billing lane is complete through it
    repeated_pushes: int = 0
    missing_pushes: int = 0
    skipped_offsets: int = 0
    given_up: Counter[str] = field(default_factory=Counter)  # push numbers, by reason

    @classmethod
    def at(cls, offset: int) -> Pending:
        return cls(offset, offset)

    @property
    def is_empty(self) -> bool:
        return self.first == self.following


class Intake:
    """Holds the pending rows of the partitions that the writer holds. Not for concurrent use."""

    def __init__(self, series: SeriesIndex, days_per_record: int) -> None:
        self.series = series
        self.pending: dict[TopicPartition, Pending] = {}
        self.horizon = Horizon()
        self._days_per_record = days_per_record
        self._cursors: dict[TopicPartition, int] = {}
        self._decoders: dict[TopicPartition, Decoder] = {}
        self._memory = BesideMemory()
        self._hour_ends = HourEnds()

    @property
    def files(self) -> int:
        """How many files of samples a commit would make, but for rows of several days."""
        return sum(len(each.rows) for each in self.pending.values())

    @property
    def ends_an_hour(self) -> bool:
        """Whether somebody may wait for what is pending to close an hour."""
        return any(each.ends_an_hour for each in self.pending.values())

    def begin(self, standings: Mapping[TopicPartition, Standing]) -> None:
        """Hold these partitions: read from `replay_from` on, store from the position on."""
        for source, standing in standings.items():
            self.pending[source] = Pending.at(standing.position)
            self._cursors[source] = standing.replay_from
            self._decoders[source] = Decoder(self.series, self._days_per_record)

    def go_on(self, positions: Mapping[TopicPartition, int]) -> None:
        """What was pending up to these positions has been stored."""
        for source, offset in positions.items():
            self.pending[source] = Pending.at(offset)

    def forget(self) -> None:
        """Release every partition."""
        self.release(frozenset(self.pending))

    def release(self, sources: frozenset[TopicPartition]) -> None:
        """Forget partitions that went to another reader."""
        if sources:
            self._memory = BesideMemory()  # what was pending of them is not written by us
            self._hour_ends.forget()
        for source in sources:
            for held in (self.pending, self._cursors, self._decoders):
                held.pop(source, None)

    def has_read(self, source: TopicPartition, end: int) -> bool:
        """Whether everything before `end` was read."""
        return self._cursors.get(source, 0) >= end

    def replay_from(self, source: TopicPartition) -> int:
        """Where a reader must begin that is to go on from where the partition was read to."""
        return self._decoders[source].replay_from(self.pending[source].following)

    def admit(self, records: Sequence[StoredRecord]) -> None:
        """Take records of held partitions, in order; those read already, or of other partitions, are ignored."""
        for record in records:
            pending = self.pending.get(record.source)
            if pending is None or record.offset < self._cursors[record.source]:
                continue
            is_replayed = record.offset < pending.first
            if not is_replayed:
                pending.skipped_offsets += record.offset - max(pending.following, self._cursors[record.source])
                pending.following = record.offset + 1
                pending.size_bytes += len(record.value)
            self._cursors[record.source] = record.offset + 1
            if is_replayed:
                self._decoders[record.source].replay(record)
            else:
                self._admit(record, pending)

    def _admit(self, record: StoredRecord, pending: Pending) -> None:
        try:
            header = _header_of(record)
        except DeadLetter as error:
            pending.dead.append(DeadRecord(record, str(error)))
            return
        source = Source.of(header)
        known = pending.states.get(source) or self.horizon.sources.get(source)
        if header.format is RecordFormat.GAPS:
            _give_up(record, header, known, pending)
            return
        try:
            self._take(record, header, known, pending)
        except (DeadLetter, Refuse) as error:
            pending.dead.append(DeadRecord(record, str(error), header.sequence is not None))
            _move(header, known, refuse(known, header), pending)

    def _take(self, record: StoredRecord, header: BatchHeader, known: SourceState | None, pending: Pending) -> None:
        decoder = self._decoders[record.source]
        verdict = judge(known, header)
        if header.resync or verdict is Judgement.REPEATED:
            pending.repeated_pushes += not header.resync
            decoder.replay(record)  # its state may be what later frames build on
            return
        before = self.series.label_bytes
        foreign = header.sequence is None or verdict is Judgement.UNSURE
        decoded = decoder.decode(record, header, is_foreign=foreign)
        pending.size_bytes += self.series.label_bytes - before  # a record says it small: equal labels compress well
        # Only now: a push that could not be read must not move the horizon past itself.
        _move(header, known, advance(known, header), pending)
        pending.ends_an_hour |= self._hour_ends.is_one(header)
        pending.batches.append(stored_batch(*record.source, record.offset, header))
        _keep(decoded, header.tenant, pending)
        pending.size_bytes += pending.beside.add(
            decoded.beside, self._memory, header.tenant, header.collector, header.received_ms
        )


def _header_of(record: StoredRecord) -> BatchHeader:
    header = decode_header(record)
    if header.lane.topic != record.topic:
        raise DeadLetter(f"a record of the {header.lane} lane in the topic {record.topic}")
    return header


def _give_up(record: StoredRecord, header: BatchHeader, known: SourceState | None, pending: Pending) -> None:
    try:
        runs = decode_gaps(record.value)
    except DeadLetter as error:  # it names no push, so nobody waits to hear of it
        pending.dead.append(DeadRecord(record, str(error)))
        return
    state = give_up(known, header, runs)
    before = Counter(dict(known.given_up)) if known else Counter()
    pending.given_up += Counter(dict(state.given_up)) - before
    _move(header, known, state, pending)


def _move(header: BatchHeader, known: SourceState | None, state: SourceState, pending: Pending) -> None:
    pending.missing_pushes += state.missing_pushes - (known.missing_pushes if known else 0)
    pending.states[Source.of(header)] = state


def _keep(decoded: Decoded, tenant: Tenant, pending: Pending) -> None:
    for rows in decoded.rows:
        if len(rows.values):
            pending.rows.setdefault(tenant, []).append(rows)
            pending.samples += len(rows.values)
    pending.samples += len(decoded.beside.histograms.messages)
