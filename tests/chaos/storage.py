"""What stands behind the vendor's ports: a folder, or Kafka, S3 and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.chaos.lossy import LossyWire, lossy_wire
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.process import ServiceProcess
from tests.services.s3 import S3Server

SESSION_SECONDS = 3.0  # after a kill the group waits so long for the dead reader
BROKER_SETTINGS = {"group.min.session.timeout.ms": "1000"}


@dataclass(frozen=True, slots=True)
class Storage:
    """The section `deployment`, without its folder; the servers behind it, and the wire to the database, if any."""

    deployment: Mapping[str, Any]
    servers: Mapping[str, ServiceProcess] = field(default_factory=dict)
    wire: LossyWire | None = None


EMBEDDED = Storage({"log": {"lease_seconds": 1}})


@contextmanager
def scale_out(kafka: KafkaServer, postgres: PostgresServer, s3: S3Server, folder: Path) -> Iterator[Storage]:
    """A database and a bucket of its own; the keys of the bucket go into a file in `folder`."""
    credentials = folder / "credentials"
    credentials.write_text(
        f"[default]\naws_access_key_id = {s3.account.access_key}\naws_secret_access_key = {s3.account.secret_key}\n"
    )
    with postgres.database() as direct, lossy_wire(postgres.folder) as wire, s3.bucket() as bucket:
        url = sa.make_url(direct).set(query={"host": str(wire.folder)}).render_as_string()
        objects = {
            "bucket": bucket.name,
            "endpoint_url": s3.account.endpoint_url,
            "region": s3.account.region,
            "encryption": "none",
            "credentials_file": str(credentials),
        }
        brokers = {"bootstrap_servers": kafka.bootstrap_servers, "session_timeout_seconds": SESSION_SECONDS}
        deployment = {
            "database": {"url": url},
            "log": {"kind": "kafka", "partitions": 4, "kafka": {**brokers, "revoke_grace_seconds": 1}},
            "objects": {"kind": "s3", "s3": objects},
            "lake": {"catalog_url": url, "warehouse": f"s3://{bucket.name}/lake"},
        }
        servers = {"kafka": kafka.process, "postgres": postgres.process, "s3": s3.process}
        yield Storage(deployment, servers, wire)
