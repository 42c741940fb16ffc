"""The lake's facade: what the rest of the vendor side may ask of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.table import Table

from kernel.clock import Clock
from kernel.ids import CollectorId, OrganizationId, ProjectId
from kernel.log import TopicPartition
from kernel.objects import ObjectStore
from kernel.window import Window
from metering.batches import OffsetRange, StoredBatch
from metering.lake.batches import load_batches, ranges_of
from metering.lake.beside import BESIDE
from metering.lake.beside_read import scan_exemplars, scan_histograms, scan_metadata, scan_starts
from metering.lake.faults import translated_errors
from metering.lake.horizon import Horizon, Source, SourceState
from metering.lake.horizon_store import HorizonStore
from metering.lake.lineage import origins
from metering.lake.manifests import DataFile
from metering.lake.places import Places
from metering.lake.positions import FileName, file_sha256
from metering.lake.scan import ScanRequest, plan_files, scan_samples
from metering.lake.series_table import read_series
from metering.lake.tables import SERIES, Tables
from metering.lake.tags import tag_snapshot
from metering.record import Lane

DEFAULT_HOLD_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """`carry_in_ms`: also each series' latest sample at most so long before the window (its time is before the
    window's start). `snapshot_id`: read the lake as it was then. `as_integers`: also `integer` and `scale`."""

    carry_in_ms: int = 0
    snapshot_id: int | None = None
    as_integers: bool = False


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A data file, and which files of the writer it is or was merged from: they name the records they hold."""

    location: str
    sha256: str
    rows: int
    size_bytes: int
    origins: tuple[FileName, ...]


@dataclass(frozen=True, slots=True)
class LakeInfo:
    """The state of the lake at one snapshot (None: nothing stored yet).

    `positions` are next offsets; `series` counts rows of the series table, where a series that moved between
    writers may stand twice; `beside` counts the other tables' rows so.
    """

    snapshot_id: int | None
    rows: int
    files: int
    size_bytes: int
    snapshots: int
    series: int
    positions: Mapping[TopicPartition, int]
    horizon_sha256: str | None
    sources: int
    missing_pushes: int
    beside: Mapping[str, int] = field(default_factory=dict)
    given_up: Mapping[str, int] = field(default_factory=dict)  # of these, what collectors said, by reason


class Lake:
    """One lake. Reads may run beside a writer, in this process or another; nothing here changes samples."""

    def __init__(self, tables: Tables, objects: ObjectStore, clock: Clock) -> None:
        self.tables = tables
        self.objects = objects
        self.clock = clock
        self.horizons = HorizonStore(objects)

    @classmethod
    async def open(
        cls,
        catalog_url: str,
        warehouse: str,
        objects: ObjectStore,
        clock: Clock,
        properties: Mapping[str, str] | None = None,
    ) -> Lake:
        """Open, and create what does not exist.

        `catalog_url`: `sqlite:///...` or `postgresql+psycopg://...`. `warehouse`: a folder, or `s3://bucket/prefix`
        with `properties` in pyiceberg's names (`s3.endpoint`, `s3.region`, `s3.access-key-id`,
        `s3.secret-access-key`) and ours (`s3.sse`, `s3.sse-kms-key-id`, `s3.expected-bucket-owner`).
        `objects` holds horizons and dead letters. Raises LakeUnavailable.
        """
        tables = await asyncio.to_thread(Tables, catalog_url, warehouse, dict(properties or {}))
        return cls(tables, objects, clock)

    @property
    def places(self) -> Places:
        """Where it keeps what it has, for those who change files and not rows."""
        return Places(self.tables, self.horizons, self.objects)

    async def scan(
        self,
        organization: str,
        window: Window,
        names: Sequence[str] | None = None,
        project: str | None = None,
        options: ScanOptions | None = None,
    ) -> pa.Table:
        """The samples of an organization in `[start, end)`, each once, ordered by series_id, then timestamp_ms.

        Columns: organization, project, collector (dictionary<int32, string>), labels (dictionary<int32, binary>,
        canonical bytes of `metering.record`), series_id (fixed binary 16), timestamp_ms (int64), value (double,
        stale markers included). `names` are metric names; None: all. Of different values at one instant of one
        series the lower wins and NaN loses; the schema's metadata counts them as `byoc.conflicts`, and names the
        snapshot read as `byoc.snapshot`. Asked for integers, it has two more columns, `integer` (int64) and `scale`
        (int8, 0 to 9): value is integer / 10 ** scale, bit for bit, and both are null where it is no such decimal.
        One series may have several scales. Raises LakeUnavailable, LakeDamaged, UnknownSnapshot.
        """
        chosen = options or ScanOptions()
        request = ScanRequest(
            organization,
            window,
            None if names is None else tuple(names),
            project,
            chosen.carry_in_ms,
            chosen.as_integers,
        )
        state = await asyncio.to_thread(self.tables.samples, chosen.snapshot_id)
        return await asyncio.to_thread(scan_samples, self.tables, state, request)

    async def series(self, organization: str, names: Sequence[str] | None = None) -> pa.Table:
        """The series of an organization, each once, by series_id; `names` are metric names, None: all.

        Columns: series_id, organization, project, collector, name, labels (canonical bytes). Raises
        LakeUnavailable.
        """
        return await asyncio.to_thread(read_series, self.tables, organization, names)

    async def histograms(self, organization: str, window: Window, tag: str | None = None) -> pa.Table:
        """The native histograms of an organization in `[start, end)`, each once, by series_id, then timestamp_ms.

        Columns: series_id, timestamp_ms, start_ms (0: not told), schema, count, sum, zero_threshold, zero_count,
        message (`io.prometheus.write.v2.Histogram`). Of different ones at one instant of one series that with the
        lower count wins, then the lower sum, then message; a stale marker (the sum is NaN) loses. The schema's
        metadata counts such instants as `byoc.conflicts`. `tag`: as a tagged month was. Raises LakeUnavailable,
        UnknownSnapshot.
        """
        return await asyncio.to_thread(scan_histograms, self.tables, organization, window, tag)

    async def exemplars(self, organization: str, window: Window) -> pa.Table:
        """The exemplars of an organization in `[start, end)`, each once, by series_id, timestamp_ms and labels.

        Columns: series_id, timestamp_ms, labels (canonical bytes, may be empty), value. A series may have several
        at one instant. Raises LakeUnavailable.
        """
        return await asyncio.to_thread(scan_exemplars, self.tables, organization, window)

    async def starts(
        self, organization: str, window: Window, series_ids: Sequence[bytes] | None = None
    ) -> pa.Table:
        """When the counters of an organization began, as samples in `[start, end)` told, by series_id and seen_ms.

        Columns: series_id, start_ms, seen_ms (the earliest sample that told of this start), previous_ms (the start
        that stood before; 0: none was told). For each series the start that stood when the window began comes too;
        its seen_ms is before the window. A counter was reset between the samples at a and b (a < b, neighbours) if
        there is a row with a < seen_ms <= b and start_ms > a: what it says at b was counted since start_ms. A
        start at or before a is the sender's word on the past, not a reset. `series_ids`: these alone. Raises
        LakeUnavailable.
        """
        return await asyncio.to_thread(scan_starts, self.tables, organization, window, series_ids)

    async def metadata(self, organization: str, project: str | None = None) -> pa.Table:
        """What each collector of an organization last said of metric families, by project, collector and family.

        Columns: organization, project, collector, family, type, unit, help, seen_ms (of the push, to six hours).
        Raises LakeUnavailable.
        """
        return await asyncio.to_thread(scan_metadata, self.tables, organization, project)

    async def files(
        self, window: Window, organization: str, snapshot_id: int | None = None
    ) -> tuple[LakeFile, ...]:
        """The data files that may hold an organization's rows of a window, by location, for proofs."""
        state = await asyncio.to_thread(self.tables.samples, snapshot_id)
        with translated_errors("planning files"):
            found = await asyncio.to_thread(plan_files, state, ScanRequest(organization, window))
        return tuple(sorted([await self._lake_file(file) for file in found], key=lambda file: file.location))

    async def batches(
        self, organization: str, names: Iterable[str]
    ) -> tuple[Mapping[str, tuple[OffsetRange, ...]], list[StoredBatch]]:
        """Which records each of these files was made from, and the organization's among them, in order.

        `names` as usage rows have them; merging and retention may have deleted the files. Raises LakeDamaged,
        ObjectsUnavailable.
        """
        ranges = {name: await ranges_of(self.objects, name) for name in sorted(set(names))}
        every = {one for each in ranges.values() for one in each}
        return ranges, await load_batches(self.objects, organization, every)

    async def _lake_file(self, file: DataFile) -> LakeFile:
        origin, sha256 = await origins(self.objects, file.location), file_sha256(file.location)
        assert sha256 is not None  # or there were no origins
        return LakeFile(file.location, sha256, file.rows, file.bytes, origin)

    async def snapshot_id(self) -> int | None:
        """The newest snapshot of the samples; None before the first commit."""
        return (await asyncio.to_thread(self.tables.samples)).snapshot_id

    async def horizon(self, snapshot_id: int | None = None) -> Horizon:
        """The last push of every collector that a snapshot holds."""
        state = await asyncio.to_thread(self.tables.samples, snapshot_id)
        return await self.horizons.load(state.horizon_sha256)

    async def watermark(self, organization: str, hold_seconds: float = DEFAULT_HOLD_SECONDS) -> int | None:
        """Ms: every collector of the organization has sent, and the lake holds, all it scraped before this time.

        The minimum over collectors of the live lane that say so (foreign senders do not) and were heard of in the
        last `hold_seconds`; None without any. Backfills leave it alone.
        """
        heard_since_ms = self.clock.now_ms() - round(hold_seconds * 1000)
        live = _live_states(await self.horizon(), organization)
        through = [
            state.complete_through_ms(heard_since_ms) or 0
            for state in live.values()
            if state.has_promised and state.received_ms >= heard_since_ms
        ]
        return min(through, default=None)

    async def received_at(self, organization: str) -> Mapping[tuple[ProjectId, CollectorId], int]:
        """When the gateway last received a live push of each collector, ms; what silence is judged by."""
        live = _live_states(await self.horizon(), organization)
        return {(source.tenant.project, source.collector): state.received_ms for source, state in live.items()}

    async def organizations(self) -> Sequence[OrganizationId]:
        """Every organization that has ever pushed, sorted."""
        return sorted({source.tenant.organization for source in (await self.horizon()).sources})

    async def tag(self, name: str, snapshot_id: int) -> None:
        """Keep a snapshot readable for good, under a name; the same again is no error.

        Raises UnknownSnapshot, LakeUnavailable, LakeDamaged when the name stands for another snapshot.
        """
        await asyncio.to_thread(tag_snapshot, self.tables, name, snapshot_id)

    async def info(self) -> LakeInfo:
        """Counts, positions and horizon at the newest snapshot."""
        state, series = await asyncio.to_thread(lambda: (self.tables.samples(), self.tables.load(SERIES)))
        beside = await asyncio.to_thread(
            lambda: {each.name: _total(self.tables.load(each.identifier), "total-records") for each in BESIDE}
        )
        horizon = await self.horizons.load(state.horizon_sha256)
        return LakeInfo(
            snapshot_id=state.snapshot_id,
            rows=_total(state.table, "total-records"),
            files=_total(state.table, "total-data-files"),
            size_bytes=_total(state.table, "total-files-size"),
            snapshots=len(state.table.metadata.snapshots),
            series=_total(series, "total-records"),
            positions=state.positions,
            horizon_sha256=state.horizon_sha256,
            sources=len(horizon.sources),
            missing_pushes=sum(each.missing_pushes for each in horizon.sources.values()),
            beside=beside,
            given_up=dict(sum((Counter(dict(each.given_up)) for each in horizon.sources.values()), Counter())),
        )

    async def close(self) -> None:
        """Release the catalog's connections. Idempotent."""
        await asyncio.to_thread(self.tables.close)


def _live_states(horizon: Horizon, organization: str) -> Mapping[Source, SourceState]:
    return {
        source: state
        for source, state in horizon.sources.items()
        if source.lane is Lane.BILLING and source.tenant.organization == organization
    }


def _total(table: Table, name: str) -> int:
    snapshot = table.current_snapshot()
    return int(snapshot.summary.additional_properties.get(name, 0)) if snapshot and snapshot.summary else 0
