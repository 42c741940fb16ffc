"""Files by organization from manifests that are read once: the same as pyiceberg's own plan, of every snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg import expressions
from pyiceberg.manifest import ManifestContent, ManifestFile

from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.compact import Compactor
from metering.lake.errors import LakeDamaged
from metering.lake.manifests import Manifests
from metering.lake.scan import ScanRequest, plan_files
from metering.lake.settings import LakeSettings
from metering.lake.tables import SamplesState
from tests.lake.setting import ACME, OTHER, T0, Push, append, gauge, memory_log, open_lake, writer_of

_on: Any = expressions
WINDOWS = (Window(T0, T0 + DAY_MS), Window(T0 + 20 * HOUR_MS, T0 + 30 * HOUR_MS), Window(T0, T0 + 9 * DAY_MS))


def by_pyiceberg(state: SamplesState, organization: str, window: Window) -> list[str]:
    chosen = _on.And(
        _on.StartsWith("tenant", f"{organization}/"),
        _on.GreaterThanOrEqual("timestamp_ms", window.start_ms),
        _on.LessThan("timestamp_ms", window.end_ms),
    )
    tasks = state.table.scan(row_filter=chosen, snapshot_id=state.snapshot_id).plan_files()
    return sorted(task.file.file_path for task in tasks)


def planned(state: SamplesState, organization: str, window: Window) -> list[str]:
    return sorted(file.location for file in plan_files(state, ScanRequest(organization, window)))


async def test_it_plans_what_pyiceberg_plans_and_reads_each_manifest_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, log = await open_lake(tmp_path), await memory_log(partitions=1)
    snapshots = []
    for number, at_ms in enumerate(range(T0, T0 + 3 * DAY_MS, 7 * HOUR_MS), start=1):
        for tenant in (ACME, OTHER):
            rows = [(gauge("up", job="x"), at_ms + minute * 60_000, 1.0) for minute in range(100)]
            await append(log, [Push(rows, number, tenant=tenant)])
        await writer_of(lake, log).drain()
        snapshots.append(lake.tables.samples())
    assert await Compactor(lake.places, LakeSettings()).compact_one(least_files=2)
    snapshots.append(lake.tables.samples())
    read: list[str] = []
    real = ManifestFile.fetch_manifest_entry

    def counted(self: ManifestFile, *given: Any, **named: Any) -> Any:
        read.append(self.manifest_path)
        return real(self, *given, **named)

    expected = {
        (state.snapshot_id, owner, window): by_pyiceberg(state, owner, window)
        for state in snapshots
        for owner in (ACME.organization, OTHER.organization, "nobody")
        for window in WINDOWS
    }
    assert any(expected.values())
    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", counted)
    for (snapshot_id, owner, window), files in expected.items():
        state = lake.tables.samples(snapshot_id)
        assert planned(state, owner, window) == files
    assert read
    assert len(read) == len(set(read)), "each manifest once"
    await lake.close()


async def test_what_it_remembers_has_a_bound(tmp_path: Path) -> None:
    lake, log = await open_lake(tmp_path), await memory_log(partitions=1)
    for number in range(1, 6):
        await append(log, [Push([(gauge("up"), T0 + number * 60_000, 1.0)], number)])
        await writer_of(lake, log).drain()
    state = lake.tables.samples()
    assert state.snapshot_id is not None
    few = Manifests(most_files=2)
    found = [list(few.files(state.table, state.snapshot_id, ACME.organization, (0, 10**6))) for _ in range(2)]
    assert found[0] == found[1]
    assert len(found[0]) == 5
    assert few.remembered <= 2
    await lake.close()


async def test_delete_files_of_an_organization_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, log = await open_lake(tmp_path), await memory_log(partitions=1)
    await append(log, [Push([(gauge("up"), T0, 1.0)], 1)])
    await writer_of(lake, log).drain()
    monkeypatch.setattr(ManifestFile, "content", ManifestContent.DELETES)
    state = lake.tables.samples()
    assert planned(state, OTHER.organization, WINDOWS[0]) == []
    with pytest.raises(LakeDamaged, match="delete files"):
        planned(state, ACME.organization, WINDOWS[0])
    await lake.close()
