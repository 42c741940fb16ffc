"""The head: recent samples of the live topic in memory, apart for each organization.

Not safe for concurrent use: the owner lets one caller in at a time, and runs `ingest` and evaluations off the
event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import StoredRecord, TopicPartition
from metering.frames import FrameRows, OldState, SourceReaders, UnknownState, WireError
from metering.promql.limits import HeadLimits, Reason
from metering.promql.organization import OrganizationHead
from metering.promql.vector import Integers
from metering.record import BatchHeader, Lane, RecordFormat, SampleBatch, decode_batch, decode_header

LANE_SILENT_MS = 600_000
"""A lane that was not heard for so long, while its collector sends in another, holds the collector back no more."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """The one sender that may publish metrics of a reserved prefix: an internal identity of the vendor."""

    project: ProjectId
    collector: CollectorId


@dataclass(frozen=True, slots=True)
class CollectorProgress:
    """How far one collector has come. Times are ms UTC; `received_ms` is by the gateway's clock.

    Complete through is the least of its live lanes, of those that say it.
    """

    tenant: Tenant
    collector: CollectorId
    received_ms: int
    complete_through_ms: int | None


@dataclass
class Head:
    """Organizations by id. A record is filed under the tenant of its header, which comes from a certificate.

    `metrics` are the names that are kept (None: all). `reserved` maps a prefix of metric names to the one
    publisher whose samples count (None: none from the log); what others send under it is refused, so that a
    tenant can't write its own licence gauges.
    """

    limits: HeadLimits
    metrics: frozenset[str] | None = None
    reserved: Mapping[str, Publisher | None] = field(default_factory=dict)
    refused: Counter[Reason] = field(default_factory=Counter)
    _organizations: dict[OrganizationId, OrganizationHead] = field(default_factory=dict)
    _progress: dict[tuple[Tenant, CollectorId], CollectorProgress] = field(default_factory=dict)
    _lanes: dict[tuple[Tenant, CollectorId], dict[Lane, CollectorProgress]] = field(default_factory=dict)
    _readers: dict[TopicPartition, SourceReaders] = field(default_factory=dict)

    def ingest(self, record: StoredRecord) -> int:
        """Take one record in; returns the samples kept. A record read twice changes nothing.

        Frames that build on what was not read are counted and passed over. Raises DeadLetter for a record that is
        none.
        """
        header = decode_header(record)
        if header.lane is Lane.HISTORY or header.format is RecordFormat.GAPS:
            return 0
        if header.format is not RecordFormat.FRAMES:
            batch = decode_batch(record.value)
            self._note(header)
            return self.ingest_batch(header, batch)
        if header.resync:
            self._readers_of(record.source).replay(header, record.value, record.offset)
            return 0
        rows = self._read(record, header)
        self._note(header)
        head = self._organization(header.tenant.organization)
        return sum(
            head.ingest_numbered(one.series, one.timestamps_ms, one.values, header.collector, header.received_ms)
            for one in rows
        )

    def replay(self, record: StoredRecord) -> None:
        """Take in what later records may build on, of a record too old for its samples. Raises DeadLetter."""
        header = decode_header(record)
        if header.format is RecordFormat.FRAMES and header.lane is not Lane.HISTORY:
            self._readers_of(record.source).replay(header, record.value, record.offset)

    def _read(self, record: StoredRecord, header: BatchHeader) -> Sequence[FrameRows]:
        self._organization(header.tenant.organization).recycle()
        try:
            return self._readers_of(record.source).read(header, record.value, record.offset)
        except UnknownState as unknown:
            known = sum(len(one.values) for one in unknown.rows)
            reason = Reason.OUT_OF_ORDER if isinstance(unknown, OldState) else Reason.UNKNOWN_STATE
            self.refused[reason] += max(1, int(record.headers.get("samples", b"0")) - known)
            return unknown.rows
        except WireError as error:
            raise DeadLetter(f"a record of frames that can't be read: {error}") from error

    def _readers_of(self, source: TopicPartition) -> SourceReaders:
        readers = self._readers.get(source)
        if readers is None:
            readers = self._readers[source] = SourceReaders(self._number, release=self._release)
        return readers

    def _number(self, tenant: Tenant, collector: CollectorId, series: Sequence[bytes]) -> Integers:
        forbidden = self._forbidden(Publisher(tenant.project, collector))
        return self._organization(tenant.organization).number(series, forbidden)

    def _release(self, tenant: Tenant, numbers: Integers) -> None:
        self._organization(tenant.organization).release(numbers)

    def _forbidden(self, sender: Publisher) -> tuple[str, ...]:
        return tuple(prefix for prefix, owner in self.reserved.items() if owner != sender)

    def ingest_batch(self, header: BatchHeader, batch: SampleBatch) -> int:
        """The samples of a batch alone, without its header's progress."""
        forbidden = self._forbidden(Publisher(header.tenant.project, header.collector))
        head = self._organization(header.tenant.organization)
        return head.ingest(batch, header.collector, header.received_ms, forbidden)

    def _organization(self, organization: OrganizationId) -> OrganizationHead:
        head = self._organizations.get(organization)
        if head is None:
            head = OrganizationHead(organization, self.limits, self.metrics, tuple(self.reserved), self.refused)
            self._organizations[organization] = head
        return head

    def source(self, organization: OrganizationId) -> OrganizationHead:
        """The series of one organization, to evaluate expressions on. Empty for one that sent nothing."""
        return self._organization(organization)

    def organizations(self) -> list[OrganizationId]:
        """Every organization that sent anything, or whose progress was restored."""
        return sorted({*self._organizations, *(tenant.organization for tenant, _ in self._progress)})

    def progress(self, organization: OrganizationId | None = None) -> Iterator[CollectorProgress]:
        """What is known of each collector, of one organization or of all."""
        for (tenant, _), progress in self._progress.items():
            if organization is None or tenant.organization == organization:
                yield progress

    def restore(self, progress: CollectorProgress) -> None:
        """Take in what an earlier process knew, so that a collector that went silent then is still known."""
        key = (progress.tenant, progress.collector)
        known = self._progress.get(key)
        if known is None or known.received_ms < progress.received_ms:
            self._progress[key] = progress

    def forget(self, tenant: Tenant, collector: CollectorId) -> None:
        """Drop a collector that was decommissioned; it is known again when it sends again."""
        self._progress.pop((tenant, collector), None)
        self._lanes.pop((tenant, collector), None)

    def _note(self, header: BatchHeader) -> None:
        key = (header.tenant, header.collector)
        lanes = self._lanes.setdefault(key, {})
        told = CollectorProgress(*key, header.received_ms, header.complete_through_ms)
        lanes[header.lane] = _later(lanes.get(header.lane), told)
        received = max(lane.received_ms for lane in lanes.values())
        through = [
            lane.complete_through_ms
            for lane in lanes.values()
            if lane.complete_through_ms is not None and lane.received_ms > received - LANE_SILENT_MS
        ]
        heard = CollectorProgress(*key, received, min(through, default=None))
        known = self._progress.get(key)
        # What an earlier process stored stands until a lane says more.
        if known is not None and (heard.complete_through_ms is None or known.received_ms > received):
            heard = _later(known, heard)
        self._progress[key] = heard

    def expire(self, now_ms: int) -> None:
        """Drop series whose newest sample is older than the retention."""
        for head in self._organizations.values():
            head.expire(now_ms)

    @property
    def series(self) -> int:
        return sum(len(head) for head in self._organizations.values())

    @property
    def allocated_bytes(self) -> int:
        return sum(head.allocated_bytes for head in self._organizations.values())


def _later(known: CollectorProgress | None, told: CollectorProgress) -> CollectorProgress:
    """What is known after hearing `told`: times only grow."""
    if known is None:
        return told
    times = [time for time in (known.complete_through_ms, told.complete_through_ms) if time is not None]
    received_ms = max(known.received_ms, told.received_ms)
    return replace(told, received_ms=received_ms, complete_through_ms=max(times, default=None))
