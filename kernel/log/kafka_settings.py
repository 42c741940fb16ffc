"""Settings of the Kafka log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from kernel.settings import Section


def _servers(text: str) -> str:
    for server in text.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
            raise ValueError("host:port, more of them separated by commas")
    return text


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
