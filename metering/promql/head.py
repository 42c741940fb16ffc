"""The head: recent samples of the live topic in memory, apart for each organization.

Not safe for concurrent use: the owner lets one caller in at a time, and runs `ingest` and evaluations off the
event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import StoredRecord
from metering.promql.limits import HeadLimits, Reason
from metering.promql.organization import OrganizationHead
from metering.record import BatchHeader, Lane, SampleBatch, decode_batch, decode_header


@dataclass(frozen=True, slots=True)
class Publisher:
    """The one sender that may publish metrics of a reserved prefix: an internal identity of the vendor."""

    project: ProjectId
    collector: CollectorId


@dataclass(frozen=True, slots=True)
class CollectorProgress:
    """How far one collector has come. Times are ms UTC; `received_ms` is by the gateway's clock."""

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

    def ingest(self, record: StoredRecord) -> int:
        """Take one record in; returns the samples kept. A record read twice changes nothing.

        Raises DeadLetter for a record that is not one.
        """
        header = decode_header(record)
        if header.lane is Lane.HISTORY:
            return 0
        batch = decode_batch(record.value)
        self._note(header)
        return self.ingest_batch(header, batch)

    def ingest_batch(self, header: BatchHeader, batch: SampleBatch) -> int:
        """The samples of a batch alone, without its header's progress."""
        sender = Publisher(header.tenant.project, header.collector)
        forbidden = tuple(prefix for prefix, owner in self.reserved.items() if owner != sender)
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

    def _note(self, header: BatchHeader) -> None:
        key = (header.tenant, header.collector)
        known = self._progress.get(key)
        received, complete = header.received_ms, header.complete_through_ms
        if known is not None:
            received = max(received, known.received_ms)
            complete = max(filter(None, (complete, known.complete_through_ms)), default=None)
        self._progress[key] = CollectorProgress(header.tenant, header.collector, received, complete)

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
