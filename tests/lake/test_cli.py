"""`byoc lake info` on a folder."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from typer.testing import CliRunner

from kernel.clock import Clock, VirtualClock
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.settings import Section, documented_fields
from metering.lake.cli import lake_app
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


def test_every_setting_is_documented() -> None:
    assert [name for name, text, _ in documented_fields(LakeSettings) if not text or "default" not in text] == []
