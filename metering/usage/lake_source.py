"""Usage reads the lake through this: files with the times they hold, and scans."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.types import LongType

from kernel.ids import OrganizationId
from kernel.window import Window
from metering.lake.api import Lake
from metering.lake.faults import translated_errors
from metering.lake.positions import file_sha256
from metering.lake.scan import ScanRequest, plan_files, scan_steady
from metering.lake.tables import SamplesState
from metering.usage.closer import SampleFile
from metering.usage.meter import TARGET_UP, GaugeMeter
from metering.usage.reading import GaugeReading, read_gauges


class LakeSource:
    """A `SampleSource` on the lake. `hold_seconds`: for so long a silent collector holds back the watermark."""

    def __init__(self, lake: Lake, hold_seconds: float) -> None:
        self._lake = lake
        self._hold_seconds = hold_seconds

    async def organizations(self) -> Sequence[OrganizationId]:
        return await self._lake.organizations()

    async def files(self, organization: OrganizationId, window: Window) -> Sequence[SampleFile]:
        state = await asyncio.to_thread(self._lake.tables.samples)
        return await asyncio.to_thread(_files, state, ScanRequest(organization, window))

    async def gauges(
        self, organization: OrganizationId, window: Window, meter: GaugeMeter, limit_ms: int
    ) -> GaugeReading:
        request = ScanRequest(organization, window, (meter.metric, TARGET_UP))
        return await asyncio.to_thread(
            lambda: read_gauges(scan_steady(self._lake.tables, request, limit_ms), meter, limit_ms)
        )

    async def scan(self, organization: OrganizationId, window: Window, names: Sequence[str]) -> pa.Table:
        return await self._lake.scan(organization, window, names)

    async def starts(self, organization: OrganizationId, window: Window) -> pa.Table:
        return await self._lake.starts(organization, window)

    async def watermark(self, organization: OrganizationId) -> int | None:
        return await self._lake.watermark(organization, self._hold_seconds)

    async def snapshot_id(self) -> int | None:
        return await self._lake.snapshot_id()


def _files(state: SamplesState, request: ScanRequest) -> list[SampleFile]:
    if state.snapshot_id is None:
        return []
    with translated_errors("planning files"):
        time = state.table.schema().find_field("timestamp_ms").field_id
        return [_sample_file(file, time) for file in plan_files(state, request)]


def _sample_file(file: Any, time_field: int) -> SampleFile:
    location: str = file.file_path
    return SampleFile(
        name=location.rsplit("/data/", maxsplit=1)[-1],
        sha256=file_sha256(location) or "",
        first_ms=_milliseconds(file.lower_bounds[time_field]),
        last_ms=_milliseconds(file.upper_bounds[time_field]),
    )


def _milliseconds(bound: bytes) -> int:
    value: Any = from_bytes(LongType(), bound)
    return int(value)
