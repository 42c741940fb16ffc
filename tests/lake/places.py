"""Log, objects and lake as the vendor side has them: in one folder, or on Kafka, S3 and PostgreSQL.

An order is a JSON object, so that a process of its own can open the same places: {folder} or {kafka, catalog,
bucket, endpoint, access_key, secret_key, credentials}.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kernel.clock import SystemClock
from kernel.log import Log
from kernel.log.kafka import KafkaLog
from kernel.log.kafka_settings import KafkaSettings
from kernel.log.sqlite import SqliteLog
from kernel.objects import ObjectStore
from kernel.objects.local import LocalObjects
from kernel.objects.s3 import S3Objects
from kernel.objects.s3_settings import S3Settings
from metering.lake.api import Lake
from metering.lake.settings import LakeSettings
from metering.record import HISTORY_TOPIC, LIVE_TOPIC

LEASE_SECONDS = 1.0
KAFKA_SESSION_SECONDS = 6.0  # the least that a broker takes by default


@asynccontextmanager
async def open_places(order: Mapping[str, Any]) -> AsyncIterator[tuple[Log, Lake]]:
    log, lake = _open_log(order), await _open_lake(order)
    await log.ensure_topics({LIVE_TOPIC: 4, HISTORY_TOPIC: 1})
    try:
        yield log, lake
    finally:
        await lake.close()
        await log.close()


def _open_log(order: Mapping[str, Any]) -> Log:
    if "kafka" not in order:
        return SqliteLog(Path(order["folder"]) / "log.sqlite", SystemClock(), lease_seconds=LEASE_SECONDS)
    settings = KafkaSettings(
        bootstrap_servers=order["kafka"], session_timeout_seconds=KAFKA_SESSION_SECONDS, revoke_grace_seconds=1
    )
    return KafkaLog(order["kafka"], settings)


async def _open_lake(order: Mapping[str, Any]) -> Lake:
    if "bucket" not in order:
        folder = order["folder"]
        objects: ObjectStore = LocalObjects(Path(folder) / "objects")
        return await Lake.open(f"sqlite:///{folder}/catalog.db", f"{folder}/warehouse", objects, SystemClock())
    settings = S3Settings(
        bucket=order["bucket"],
        endpoint_url=order["endpoint"],
        region="us-east-1",
        credentials_file=Path(order["credentials"]),
        encryption="none",
    )
    properties = {
        "s3.endpoint": order["endpoint"],
        "s3.region": "us-east-1",
        "s3.access-key-id": order["access_key"],
        "s3.secret-access-key": order["secret_key"],
    }
    if "cache" in order:
        properties |= LakeSettings(cache_dir=order["cache"]).cache_properties()
    objects = S3Objects(settings)
    return await Lake.open(order["catalog"], f"s3://{order['bucket']}/lake", objects, SystemClock(), properties)
