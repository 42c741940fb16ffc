"""The same crashes on Kafka, S3 and a PostgreSQL catalog, and what is sent to S3."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from metering.lake.compact import Compactor
from metering.lake.settings import LakeSettings
from metering.lake.storage import OWNER, SSE, LakeFileIO
from metering.lake.sweep import expire_snapshots, sweep_tables
from metering.lake.verify import verify
from metering.lake.writer import LakeWriter
from tests.lake.crash_world import PLACES, assert_rows, kill_at_every_step, pushes
from tests.lake.places import open_places
from tests.lake.setting import append
from tests.services.fixtures import StartKafka
from tests.services.s3 import S3Bucket

pytestmark = pytest.mark.services


@pytest.fixture
def stored(s3_bucket: S3Bucket, postgres_url: str, tmp_path: Path) -> dict[str, Any]:
    """The lake on S3 and PostgreSQL; the log in a folder."""
    account, credentials = s3_bucket.account, tmp_path / "credentials"
    credentials.write_text(
        f"[default]\naws_access_key_id = {account.access_key}\naws_secret_access_key = {account.secret_key}\n"
    )
    return {
        "folder": str(tmp_path),
        "catalog": postgres_url,
        "bucket": s3_bucket.name,
        "endpoint": account.endpoint_url,
        "access_key": account.access_key,
        "secret_key": account.secret_key,
        "credentials": str(credentials),
    }


@pytest.fixture
def places(start_kafka: StartKafka, stored: dict[str, Any]) -> dict[str, Any]:
    return {**stored, "kafka": start_kafka({}).bootstrap_servers}


async def test_killed_stopped_and_swept_the_rows_are_the_same(places: dict[str, Any]) -> None:
    async with open_places(places) as (log, lake):
        await kill_at_every_step(places, log, lake)
        await asyncio.to_thread(expire_snapshots, lake.tables, 2)
        await asyncio.to_thread(sweep_tables, lake.tables, 2**53)
        await assert_rows(lake, len(PLACES))


async def test_a_scan_of_s3_reads_a_file_once(stored: dict[str, Any], tmp_path: Path) -> None:
    cached = {**stored, "cache": str(tmp_path / "cache")}
    async with open_places(cached) as (log, lake):
        await append(log, pushes(1, 3))
        await LakeWriter(lake, log).drain()
        await assert_rows(lake, 3)
        kept = [path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64]
        assert kept
        for path in kept:
            path.write_bytes(path.read_bytes()[::-1])  # a disk that keeps badly: found at the next start
    async with open_places(cached) as (_, lake):
        await assert_rows(lake, 3)
        while await Compactor(lake.places, LakeSettings()).compact_one(least_files=2):
            pass
        await assert_rows(lake, 3)
        assert (await verify(lake.places, None)).findings == []


async def test_every_write_to_s3_names_owner_and_encryption(
    stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, str]] = []
    make, begin = LakeFileIO._client, LakeFileIO.__init__

    def asked(self: LakeFileIO, properties: dict[str, str]) -> None:
        begin(self, {**properties, SSE: "AES256", OWNER: "123456789012"})

    def watched(self: LakeFileIO) -> Any:
        client = make(self)
        client.meta.events.register(
            "before-call.s3.PutObject", lambda params, **_: sent.append(dict(params["headers"])), unique_id="watch"
        )
        return client

    monkeypatch.setattr(LakeFileIO, "__init__", asked)
    monkeypatch.setattr(LakeFileIO, "_client", watched)
    async with open_places(stored) as (log, lake):
        await append(log, pushes(1, 1))
        await LakeWriter(lake, log).drain()
    # Two tables made and two commits: metadata, manifests, lists and data.
    assert len(sent) >= 8
    for headers in sent:
        assert headers["x-amz-server-side-encryption"] == "AES256"
        assert headers["x-amz-expected-bucket-owner"] == "123456789012"
