"""`byoc lake` on a folder, whole and damaged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner

from kernel.clock import Clock, VirtualClock
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.settings import Section, documented_fields
from metering.lake.cli import lake_app
from metering.lake.errors import LakeDamaged
from metering.lake.settings import LakeSettings
from tests.lake.setting import T0, Push, append, gauge, memory_log, open_lake, writer_of

C = TypeVar("C", bound=Section)


@dataclass
class Folder:
    folder: Path
    memory: MemoryLog
    clock: Clock

    @property
    def catalog_url(self) -> str:
        return f"sqlite:///{self.folder}/catalog.db"

    @property
    def warehouse(self) -> str:
        return (self.folder / "warehouse").as_uri()

    @property
    def lake_properties(self) -> dict[str, str]:
        return {}

    def section(self, name: str, model: type[C]) -> C:
        return model()

    def objects(self) -> LocalObjects:
        return LocalObjects(self.folder / "objects")

    async def log(self) -> MemoryLog:
        return self.memory

    async def close(self) -> None:
        pass


async def filled_files(folder: Path, commits: int = 3) -> MemoryLog:
    """A file of samples for each commit."""
    log, lake = await memory_log(), await open_lake(folder)
    for number in range(1, commits + 1):
        await append(log, [Push([(gauge(), T0 + number, 1.0)], number=number)])
        await writer_of(lake, log, compact_ratio=0).drain()
    await lake.close()
    return log


async def fill(folder: Path) -> MemoryLog:
    log, lake = await memory_log(), await open_lake(folder)
    await append(log, [Push([(gauge(), T0, 1.0)], number=2)])
    await writer_of(lake, log).drain()
    await append(log, [Push([(gauge(), T0 + 1, 1.0)], number=3)])
    await lake.close()
    return log


def test_info_shows_rows_positions_and_lag(tmp_path: Path) -> None:
    deployment = Folder(tmp_path, asyncio.run(fill(tmp_path)), VirtualClock())
    result = CliRunner().invoke(lake_app, ["info", "--json"], obj=deployment)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["rows"], found["series_rows"], found["lag_records"], found["missing_pushes"]) == (1, 1, 1, 1)
    assert sum(found["positions"].values()) == 1
    lines = CliRunner().invoke(lake_app, ["info"], obj=deployment).output
    assert "byoc.samples/" in lines


def test_a_file_that_is_gone_is_named_and_the_others_are_merged(tmp_path: Path) -> None:
    deployment = Folder(tmp_path, asyncio.run(filled_files(tmp_path)), VirtualClock())
    gone, *_ = sorted((tmp_path / "warehouse/byoc/samples/data").rglob("*.parquet"))
    gone.unlink()
    result = CliRunner().invoke(lake_app, ["compact"], obj=deployment)
    assert result.exit_code == 1
    assert f"{gone.name} is gone: restore it" in result.output
    assert "2 files merged, 2 rows" in result.output
    result = CliRunner().invoke(lake_app, ["verify"], obj=deployment)
    assert result.exit_code == 1
    assert f"{gone.name}: is gone" in result.output


@pytest.mark.parametrize("kind", ["*-m0.avro", "snap-*.avro"])
def test_metadata_that_was_cut_is_damage_and_verify_names_it(tmp_path: Path, kind: str) -> None:
    deployment = Folder(tmp_path, asyncio.run(filled_files(tmp_path, commits=1)), VirtualClock())
    [path] = (tmp_path / "warehouse/byoc/samples/metadata").glob(kind)
    path.write_bytes(path.read_bytes()[:-20])
    result = CliRunner().invoke(lake_app, ["verify"], obj=deployment)
    assert result.exit_code == 1
    assert f"{path.name}: can't be read" in result.output
    assert isinstance(CliRunner().invoke(lake_app, ["compact"], obj=deployment).exception, LakeDamaged)


def test_every_setting_is_documented() -> None:
    assert [name for name, text, _ in documented_fields(LakeSettings) if not text or "default" not in text] == []
