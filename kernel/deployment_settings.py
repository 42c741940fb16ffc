"""The section `deployment` of the vendor's settings: which adapter stands behind each port."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import sqlalchemy as sa
from pydantic import AfterValidator, Field, SecretStr, model_validator

from kernel.log.groups import DEFAULT_LEASE_SECONDS, DEFAULT_MAX_RECORD_BYTES
from kernel.log.kafka_settings import KafkaSettings
from kernel.objects.s3_settings import S3Settings
from kernel.settings import Section

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")


def _sql_url(text: SecretStr) -> SecretStr:
    try:
        url = sa.make_url(text.get_secret_value())
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError("a SQLAlchemy URL, postgresql+psycopg://user@host/name or sqlite:////path") from None
    if url.drivername not in _DRIVERS:
        raise ValueError("a URL that begins with postgresql+psycopg:// or sqlite:///")
    if not url.database or url.database == ":memory:":
        raise ValueError("a URL that names a database, or a file for sqlite")
    return text


SqlUrl = Annotated[SecretStr, AfterValidator(_sql_url)]


class DatabaseSettings(Section):
    """Where contracts, invoices, alert state and jobs are kept."""

    url: SqlUrl | None = Field(
        default=None,
        description="SQLAlchemy URL, say postgresql+psycopg://user:password@host/byoc. Default: byoc.sqlite in"
        " `folder`. Put it in the environment (BYOC_DEPLOYMENT__DATABASE__URL) when it holds a password.",
    )


class LogSettings(Section):
    """Where samples wait between the gateway and its readers."""

    kind: Literal["sqlite", "kafka"] = Field(
        default="sqlite",
        description="sqlite (default): log.sqlite in `folder`, one machine. kafka: see `kafka`, many machines.",
    )
    partitions: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Partitions of a topic that byoc creates. Default 8. The most readers of one group that"
        " can share the work; can't be changed later without moving keys between partitions.",
    )
    max_record_bytes: int = Field(
        default=DEFAULT_MAX_RECORD_BYTES,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Bytes of the largest record in the SQLite log. Default 1,040,000. A push that makes a"
        " larger one is refused. Kafka's own max.message.bytes counts there.",
    )
    lease_seconds: float = Field(
        default=DEFAULT_LEASE_SECONDS,
        ge=1,
        le=3600,
        description="Seconds that a reader of the SQLite log keeps its partitions without asking for more."
        " Default 30. One that hangs for longer is fenced when another waits; a dead process loses them at once.",
    )
    retention_hours: int = Field(
        default=168,
        ge=1,
        le=24 * 365,
        description="Hours that a record stays in the SQLite log. Default 168 (a week). Longer takes disk; what a"
        " group of readers has not passed stays however old it is.",
    )
    kafka: KafkaSettings = Field(default=KafkaSettings(), description="The brokers, when kind is kafka.")


class ObjectsSettings(Section):
    """Where reports, invoices and horizons are kept."""

    kind: Literal["local", "s3"] = Field(
        default="local", description="local (default): objects/ in `folder`. s3: see `s3`."
    )
    s3: S3Settings = Field(default=S3Settings(), description="The bucket, when kind is s3.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.kind == "s3" and not self.s3.bucket:
            raise ValueError("kind s3 needs s3.bucket")
        return self


class LakeSettings(Section):
    """Where the lake's tables are."""

    catalog_url: SqlUrl | None = Field(
        default=None,
        description="Iceberg catalog: a SQLAlchemy URL of PostgreSQL or SQLite. Default: catalog.sqlite in"
        " `folder`. Writers on several machines need one that all can reach.",
    )
    warehouse: str | None = Field(
        default=None,
        pattern=r"^(file|s3)://[^\s]+$",
        description="file:// or s3:// URI below which the tables' files lie. Default: warehouse/ in `folder`. s3://"
        " uses endpoint, region and access of `objects.s3`.",
    )


class DeploymentSettings(Section):
    """Which adapter stands behind each port. The default is everything embedded in one folder."""

    folder: Path = Field(
        default=Path("byoc-data"),
        description="Folder of the embedded adapters and the certificate authority. Default ./byoc-data. Back"
        " it up: it holds the authority's key.",
    )
    trust_domain: str = Field(
        default="byoc.local",
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
        description="Trust domain in the names of certificates: spiffe://<trust domain>/... Default byoc.local."
        " Changing it makes every collector enrol again.",
    )
    database: DatabaseSettings = Field(default=DatabaseSettings(), description="The SQL database.")
    log: LogSettings = Field(default=LogSettings(), description="The log that samples wait in.")
    objects: ObjectsSettings = Field(default=ObjectsSettings(), description="The object store.")
    lake: LakeSettings = Field(default=LakeSettings(), description="The lake's catalog and warehouse.")
