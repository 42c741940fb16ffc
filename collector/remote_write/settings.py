"""`remote_write`, as Prometheus users know it; each receiver has a spool of its own."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from collector.client.settings import HttpClientSettings, check_http_url
from collector.scrape.settings import RelabelSettings
from collector.spelling import Duration, Size
from kernel.settings import Section

_RESERVED = {
    "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "host",
    "retry-attempt", "transfer-encoding", "user-agent", "x-prometheus-remote-write-version",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class ProtobufMessage(StrEnum):
    """What is sent, as the content type names it."""

    RW1 = "prometheus.WriteRequest"
    RW2 = "io.prometheus.write.v2.Request"


class QueueSettings(Section):
    """How requests are cut, and what becomes of one that fails."""

    max_samples_per_send: int = Field(
        2000, ge=1, le=10_000, description="Most series of a request; default 2000, at most 10000."
    )
    batch_send_deadline: Duration = Field(
        5.0, ge=0, description="Longest wait for a request to fill; default 5s. A full one goes at once."
    )
    min_backoff: Duration = Field(0.03, gt=0, description="Wait before the first retry; default 30ms.")
    max_backoff: Duration = Field(5.0, gt=0, description="Longest wait between retries; default 5s.")
    retry_on_http_429: bool = Field(
        True, description="Try again when the receiver says 429; default true. False: it drops them, counted."
    )
    sample_age_limit: Duration = Field(
        0.0, ge=0, description="Requests that waited longer than this are dropped, counted; default 0: none."
    )


class RemoteWriteSettings(HttpClientSettings):
    """One receiver."""

    url: str = Field(description="http[s]:// URL that takes remote write; no default.")
    name: str = Field(
        "", description="Name of its folder and in metrics, unique; default made of the URL: a new one begins anew."
    )
    remote_timeout: Duration = Field(
        30.0, gt=0, description="Seconds until a request counts as failed; default 30s."
    )
    headers: dict[str, SecretStr] = Field({}, description="Further headers; default none. Never printed.")
    protobuf_message: ProtobufMessage = Field(
        ProtobufMessage.RW2,
        description="io.prometheus.write.v2.Request (default; after a 415 it is 1.0, remembered for a day) or"
        " prometheus.WriteRequest.",
    )
    write_relabel_configs: tuple[RelabelSettings, ...] = Field(
        (), description="Rules on series for this receiver alone, after the policy; default none."
    )
    send_exemplars: bool = Field(True, description="Send exemplars that the policy lets out; default true.")
    send_native_histograms: bool = Field(True, description="Send native histograms; default true.")
    queue_config: QueueSettings = Field(QueueSettings(), description="Cutting and retrying.")
    quota: Size = Field(
        1024**3,
        ge=16 * 1024**2,
        description="Most bytes that wait for this receiver on disk; over it the oldest go, counted; default 1GB.",
    )

    @field_validator("url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        return check_http_url(url)

    @field_validator("headers")
    @classmethod
    def _not_reserved(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        reserved = sorted(name for name in headers if name.lower() in _RESERVED)
        if reserved:
            raise ValueError(f"{', '.join(reserved)}: set by the sender (authorization: by its own setting)")
        return headers

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError("name: letters, digits, _ . and - are allowed, 100 at most")
        return self

    @property
    def folder_name(self) -> str:
        """What tells this receiver's spool from another's: its name, else its URL without what may be secret."""
        return self.name or re.sub(r"[^A-Za-z0-9.-]+", "_", self.url.partition("?")[0].partition("://")[2])[:100]


def check_receivers(receivers: tuple[RemoteWriteSettings, ...]) -> None:
    """Raises ValueError when two would share a folder."""
    names = [one.folder_name for one in receivers]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"remote_write: two receivers are {', '.join(doubled)}; give each a name")
