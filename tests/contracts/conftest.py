"""One fixture per port: the adapters, each with its real storage."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.log_rigs import KafkaRig, LogRig, MemoryRig, SqliteRig

SERVICE = pytest.mark.services


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=SERVICE)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogRig]:
    made: LogRig
    if request.param == "memory":
        made = MemoryRig()
    elif request.param == "sqlite":
        made = SqliteRig(tmp_path)
    else:
        made = KafkaRig(request.getfixturevalue("kafka_server"))
    yield made
    await made.close()
