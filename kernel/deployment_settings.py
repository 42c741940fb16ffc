"""The section `deployment` of the vendor's settings: which adapter stands behind each port."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from kernel.log.groups import DEFAULT_LEASE_SECONDS, DEFAULT_MAX_RECORD_BYTES
from kernel.settings import Section


def _servers(text: str) -> str:
    for server in text.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("host:port, more of them separated by commas")
    return text


class DatabaseSettings(Section):
    """Where contracts, invoices, alert state and jobs are kept."""

    url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL, say postgresql+psycopg://user:password@host/byoc. Default: byoc.sqlite in"
        " `folder`. Put it in the environment (BYOC_DEPLOYMENT__DATABASE__URL) when it holds a password.",
    )


class KafkaSettings(Section):
    """Used when `log.kind` is kafka."""

    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        default="127.0.0.1:9092",
        description="Brokers as host:port, separated by commas. Default 127.0.0.1:9092. One that answers is enough"
        " to start; name several so that one may be down.",
    )
    replication_factor: int = Field(
        default=-1,
        ge=-1,
        le=100,
        description="Copies of each partition of a topic that byoc creates; -1 (default) takes the"
        " broker's default. With 1, losing a broker loses samples that were acknowledged.",
    )
    min_insync_replicas: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Copies that must have a record before it is acknowledged, for topics that byoc creates."
        " Default: the broker's. Set 2 with a replication factor of 3.",
    )
    retention_hours: int = Field(
        default=168,
        ge=1,
        le=24 * 365,
        description="Hours that a record stays, for topics that byoc creates. Default 168 (a week). A lake"
        " writer that stands still for longer loses samples.",
    )
    request_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="Seconds until an append that brokers do not acknowledge fails with 'outcome unknown'."
        " Default 30. Must be longer than a broker's restart, or senders see errors during it.",
    )
    session_timeout_seconds: float = Field(
        default=30.0,
        ge=1,
        le=600,
        description="Seconds without a heartbeat after which a reader's partitions go to another. Default"
        " 30. Longer makes a crash take longer to heal; shorter makes a slow reader lose its batch.",
    )
    revoke_grace_seconds: float = Field(
        default=10.0,
        ge=0,
        le=300,
        description="Seconds that a rebalance waits for the batch in hand to be committed. Default 10. A batch that"
        " takes longer is lost to the next owner and read again.",
    )
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="How to talk to brokers: PLAINTEXT (default; only inside a trusted network), SSL, or with a"
        " password SASL_SSL.",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of the brokers' authority. Default: the system's authorities."
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM file of the client certificate for mutual TLS. Default: none is sent."
    )
    key_file: Path | None = Field(
        default=None, description="PEM file of the key of `certificate_file`. Default: none."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512",
        description="SASL mechanism. Default SCRAM-SHA-512; PLAIN shows the password to brokers.",
    )
    sasl_username: str | None = Field(default=None, description="SASL user. Default: none.")
    sasl_password: SecretStr | None = Field(
        default=None,
        description="SASL password. Default: none. Give it by the environment"
        " (BYOC_DEPLOYMENT__LOG__KAFKA__SASL_PASSWORD), not in the file.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.security.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.security} needs sasl_username and sasl_password")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together")
        return self


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
        description="Bytes of the largest record in the SQLite log. Default 1,000,000. A push that makes a"
        " larger one is refused. Kafka's own max.message.bytes counts there.",
    )
    lease_seconds: float = Field(
        default=DEFAULT_LEASE_SECONDS,
        ge=1,
        le=3600,
        description="Seconds that a reader of the SQLite log keeps its partitions without asking for more."
        " Default 30. One that hangs for longer is fenced when another waits; a dead process loses them at once.",
    )
    kafka: KafkaSettings = KafkaSettings()


class S3Settings(Section):
    """Used when `objects.kind` is s3. Access keys come from boto3's chain unless `credentials_file` is set."""

    bucket: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$",
        description="Name of the bucket, which must exist. No default: needed for S3.",
    )
    prefix: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9._=-]+/)*$",
        description="Put before every object's name, ending in '/'. Default: nothing.",
    )
    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="Endpoint of a store that is not AWS. Default: AWS's for the region.",
    )
    region: str | None = Field(
        default=None, description="Region of the bucket. Default: what boto3's chain says (AWS_REGION and so on)."
    )
    credentials_file: Path | None = Field(
        default=None,
        description="A file as ~/.aws/credentials, whose profile `default` is used. Default: boto3's chain"
        " (environment, web identity, instance role).",
    )
    expected_bucket_owner: str | None = Field(
        default=None,
        pattern=r"^\d{12}$",
        description="12-digit account that must own the bucket; sent with every call, so that a bucket"
        " which someone else re-created under the name is refused. Default: not checked.",
    )
    encryption: Literal["none", "AES256", "aws:kms"] = Field(
        default="AES256",
        description="Server-side encryption asked for with each write: AES256 (default), aws:kms with `kms_key_id`,"
        " or none for a store that refuses the header.",
    )
    kms_key_id: str | None = Field(
        default=None, description="Key for aws:kms. Default: the bucket's or the account's own."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="Seconds to wait for an answer before a try fails. Default 30."
    )


class ObjectsSettings(Section):
    """Where reports, invoices and horizons are kept."""

    kind: Literal["local", "s3"] = Field(
        default="local", description="local (default): objects/ in `folder`. s3: see `s3`."
    )
    s3: S3Settings = S3Settings()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.kind == "s3" and not self.s3.bucket:
            raise ValueError("kind s3 needs s3.bucket")
        return self


class LakeSettings(Section):
    """Where the lake's tables are."""

    catalog_url: SecretStr | None = Field(
        default=None,
        description="Iceberg catalog: a SQLAlchemy URL (PostgreSQL, SQLite) or http(s):// of a REST"
        " catalog. Default: catalog.sqlite in `folder`. Writers on several machines need one that all can reach.",
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
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    objects: ObjectsSettings = ObjectsSettings()
    lake: LakeSettings = LakeSettings()

    def resolved(self, start: Path) -> DeploymentSettings:
        """The same with `folder` taken from `start` when it is relative."""
        return self.model_copy(update={"folder": start / self.folder})
