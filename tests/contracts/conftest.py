"""One fixture per port: the adapters, each with its real storage."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kernel.database import Database, sqlite_url
from kernel.objects import ObjectStore
from kernel.objects.local import LocalObjects
from kernel.objects.memory import MemoryObjects
from kernel.objects.s3 import S3Objects
from tests.contracts.log_rigs import KafkaRig, LogRig, MemoryRig, SqliteRig
from tests.contracts.s3_account import s3_settings
from tests.services.s3 import S3Bucket

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


@pytest.fixture(params=["memory", "local", pytest.param("s3", marks=SERVICE)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "local":
        return LocalObjects(tmp_path / "objects")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return S3Objects(s3_settings(bucket, tmp_path))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=SERVICE)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    embedded = request.param == "sqlite"
    made = Database(sqlite_url(tmp_path / "db.sqlite") if embedded else request.getfixturevalue("postgres_url"))
    yield made
    made.close()
