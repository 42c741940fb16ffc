"""Usage reads the lake through this: files with the times they hold, and scans."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from kernel.ids import OrganizationId
from kernel.window import Window
from metering.lake.api import Lake
from metering.lake.errors import UnknownSnapshot
from metering.lake.faults import translated_errors
from metering.lake.manifests import DataFile
from metering.lake.positions import file_sha256
from metering.lake.scan import PlacedSamples, ScanRequest, plan_files, scan_placed, scan_steady
from metering.lake.tables import SamplesState
from metering.usage.meter import TARGET_UP, GaugeMeter
from metering.usage.reading import GaugeReading, read_gauges
from metering.usage.sample_files import SampleFile, SampleFiles
from metering.usage.store import HoursMoved


class LakeSource:
    """A `SampleSource` on the lake. `hold_seconds`: for so long a silent collector holds back the watermark."""

    def __init__(self, lake: Lake, hold_seconds: float) -> None:
        self._lake = lake
        self._hold_seconds = hold_seconds

    async def organizations(self) -> Sequence[OrganizationId]:
        return await self._lake.organizations()

    async def files(self, organization: OrganizationId, window: Window) -> SampleFiles:
        state = await asyncio.to_thread(self._lake.tables.samples)
        files = await asyncio.to_thread(_files, state, ScanRequest(organization, window))
        return SampleFiles(state.snapshot_id, files)

    async def gauges(
        self,
        organization: OrganizationId,
        window: Window,
        meter: GaugeMeter,
        limit_ms: int,
        snapshot_id: int | None,
    ) -> GaugeReading:
        request, tables = ScanRequest(organization, window, (meter.metric, TARGET_UP)), self._lake.tables

        def read() -> GaugeReading:
            return read_gauges(scan_steady(tables, self._state(snapshot_id), request, limit_ms), meter, limit_ms)

        return await asyncio.to_thread(read)

    async def scan(
        self, organization: OrganizationId, window: Window, names: Sequence[str], snapshot_id: int | None
    ) -> PlacedSamples:
        request, tables = ScanRequest(organization, window, tuple(names)), self._lake.tables
        return await asyncio.to_thread(lambda: scan_placed(tables, self._state(snapshot_id), request))

    async def starts(self, organization: OrganizationId, window: Window) -> pa.Table:
        return await self._lake.starts(organization, window)

    async def watermark(self, organization: OrganizationId) -> int | None:
        return await self._lake.watermark(organization, self._hold_seconds)

    def _state(self, snapshot_id: int | None) -> SamplesState:
        try:
            state = self._lake.tables.samples(snapshot_id)
        except UnknownSnapshot as error:
            raise HoursMoved(str(error)) from error
        return replace(state, snapshot_id=snapshot_id)  # None: nothing, whatever came since


def _files(state: SamplesState, request: ScanRequest) -> list[SampleFile]:
    with translated_errors("planning files"):
        return [_sample_file(file) for file in plan_files(state, request)]


def _sample_file(file: DataFile) -> SampleFile:
    return SampleFile(
        name=file.location.rsplit("/data/", maxsplit=1)[-1],
        sha256=file_sha256(file.location) or "",
        first_ms=file.first_ms,
        last_ms=file.last_ms,
    )
