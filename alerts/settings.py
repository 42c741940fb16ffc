"""The section `alerts` of the vendor's settings."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from kernel.errors import InvalidInput
from kernel.settings import Section, read_text

DEFAULT_RULES = Path(__file__).with_name("rules") / "byoc.yaml"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of Standard Webhooks secrets
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an http:// or https:// URL with a host")
    if parts.username or parts.password:
        raise ValueError("a URL without user and password; the signature tells the receiver who sends")
    return text


class ReceiverSettings(Section):
    """One webhook endpoint that is told of alerts."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Name in the delivery log and the payload. No default. Renaming abandons what is undelivered.",
    )
    url: Annotated[str, AfterValidator(_http_url)] = Field(
        description="http:// or https:// URL that gets the POST. No default. Redirects are not followed."
    )
    secret: SecretStr | None = Field(
        default=None,
        description="Signing secret, whsec_ and 24 to 64 bytes in base64. Exactly one of secret, secret_file and"
        " secret_env is needed; prefer the others, as this one lies in the settings file.",
    )
    secret_file: Path | None = Field(
        default=None,
        description="File with the signing secret; a second line holds the one being rotated out, and both sign."
        " Default: none.",
    )
    secret_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable with the signing secret. Default: none.",
    )
    matchers: dict[str, str] = Field(
        default_factory=dict,
        description="Labels an alert must have, by exact value, to come here, say severity: critical or"
        " organization: org-a. Default: none, so every alert of every organization.",
    )
    only_as_fallback: bool = Field(
        default=False,
        description="True: gets nothing of its own, only what another receiver could not deliver. Default false.",
    )
    fallback: str | None = Field(
        default=None,
        description="Receiver that also gets what this one has not taken in time. Default: none, and then only the"
        " retries stand between an outage of this receiver and a page that nobody sees.",
    )
    fallback_after_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds of failed attempts after which the fallback is told. Default 300.",
    )
    fallback_after_attempts: int = Field(
        default=6,
        ge=1,
        le=1000,
        description="Failed attempts of one notification after which the fallback is told, if that comes sooner."
        " Default 6, which is about 70 seconds.",
    )
    timeout_seconds: float = Field(
        default=15.0,
        gt=0,
        le=60,
        description="Seconds for one attempt, from connecting to the end of the answer. Default 15. An attempt that"
        " times out counts as failed and may have been received: the receiver sees the same webhook-id again.",
    )
    max_alerts: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Alerts in one request. Default 200. More changes follow in further requests; alerts that"
        " merely still fire are left out and counted in truncatedAlerts.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        given = [self.secret is not None, self.secret_file is not None, self.secret_env is not None]
        if sum(given) != 1:
            raise ValueError("exactly one of secret, secret_file and secret_env is needed")
        for name in self.matchers:
            if not _LABEL.fullmatch(name):
                raise ValueError(f"matchers are label names and values, {name!r} is no label name")
        return self

    def wants(self, labels: Mapping[str, str]) -> bool:
        """True when the labels meet the matchers."""
        return all(labels.get(name, "") == value for name, value in self.matchers.items())

    def load_secrets(self) -> tuple[bytes, ...]:
        """The signing keys, newest first. Raises InvalidInput without repeating a secret."""
        if self.secret is not None:
            lines = [self.secret.get_secret_value()]
        elif self.secret_file is not None:
            lines = [line.strip() for line in read_text(self.secret_file).splitlines() if line.strip()]
        else:
            lines = [found for found in [os.environ.get(str(self.secret_env))] if found]
        if not 1 <= len(lines) <= 2:
            raise InvalidInput.single(
                f"alerts.receivers.{self.name}", "secret", f"{len(lines)} secrets", "one, or two while rotating"
            )
        return tuple(parse_secret(line, f"alerts.receivers.{self.name}") for line in lines)


def parse_secret(text: str, source: str) -> bytes:
    """The key in `whsec_<base64>`, 24 to 64 bytes (Standard Webhooks 1.0.0). Raises InvalidInput."""
    try:
        if not text.startswith(SECRET_PREFIX):
            raise ValueError(text)
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        if not 24 <= len(key) <= 64:
            raise ValueError(text)
    except (ValueError, binascii.Error):
        raise InvalidInput.single(
            source, "secret", "a value (hidden)", f"{SECRET_PREFIX} and 24 to 64 bytes in base64"
        ) from None
    return key


class AlertSettings(Section):
    """Evaluation of rules and delivery of alerts."""

    rule_files: tuple[Path, ...] = Field(
        default=(),
        description="Prometheus rule files, evaluated for each organization. Default: none but the built-in ones.",
    )
    builtin_rules: bool = Field(
        default=True,
        description="Load the rules that come with byoc (licence cores and validity, silent collector). Default"
        " true. False leaves these conditions unwatched unless `rule_files` has them.",
    )
    receivers: tuple[ReceiverSettings, ...] = Field(
        default=(), description="Webhook receivers. Default: none, and then alerts are only listed, nobody is told."
    )
    external_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s]+)?$",
        description="URL of the vendor's console, sent in externalURL and generatorURL. Default: empty.",
    )
    watermark_wait_seconds: float = Field(
        default=20.0,
        ge=0,
        le=600,
        description="Seconds that an evaluation waits for collectors to have sent everything up to its time, before"
        " it goes on without. Default 20. Shorter pages sooner when a collector lags, and may judge on part of"
        " the data.",
    )
    live_collector_seconds: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="A collector that sent nothing for so many seconds is no longer waited for. Default 60.",
    )
    retention_seconds: int = Field(
        default=3600,
        ge=600,
        le=86_400,
        description="Seconds of samples kept in memory and read again from the log at a start. Default 3600. A rule"
        " that reads further back is refused.",
    )
    head_series: int = Field(
        default=200_000,
        ge=1,
        description="Series of one organization kept in memory, only of metrics that rules read. Default 200,000."
        " Further ones are left out and counted.",
    )
    head_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of memory for the samples of one organization. Default 512 MiB. Over it new series are"
        " left out, and old samples give way early.",
    )
    max_alerts_per_rule: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Alerts that one rule may have for one organization. Default 1,000. A rule with more counts as"
        " failed, and its alerts stay as they were.",
    )
    poll_seconds: float = Field(
        default=0.5,
        gt=0,
        le=10,
        description="Seconds between two looks at clock and outbox if nothing else wakes them. Default 0.5.",
    )
    allow_private_receivers: bool = Field(
        default=False,
        description="True: receivers may be on loopback and private addresses. Default false: such an address is"
        " refused at each attempt, also when a public name resolves to it.",
    )
    give_up_hours: float = Field(
        default=72.0,
        gt=0,
        le=24 * 30,
        description="Hours after which an undelivered change is given up, logged and counted. Default 72.",
    )
    keep_history_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="Days that resolved alerts, delivered changes and attempts stay in the database. Default 90.",
    )
    breaker_failures: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Failures in a row, over all groups, after which a receiver is tried by one request at a time."
        " Default 5.",
    )
    breaker_seconds: float = Field(
        default=20.0,
        ge=1,
        le=600,
        description="Seconds between these tries. Default 20. Adds at most this to the first page after an outage.",
    )
    retry_after_limit_seconds: float = Field(
        default=900.0,
        ge=1,
        le=86_400,
        description="The longest Retry-After that is honoured, in seconds. Default 900. A receiver that asks for"
        " more would silence its pages.",
    )

    @model_validator(mode="after")
    def _fallbacks_exist(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        if len(set(names)) != len(names):
            raise ValueError("two receivers have the same name")
        for receiver in self.receivers:
            if receiver.fallback is not None and (
                receiver.fallback not in names or receiver.fallback == receiver.name
            ):
                raise ValueError(f"the fallback of {receiver.name} must be another receiver of the list")
        fallbacks = {receiver.name: receiver.fallback for receiver in self.receivers}
        for name in names:
            seen, following = {name}, fallbacks[name]
            while following is not None:
                if following in seen:
                    raise ValueError(f"the fallbacks of {name} go in a circle")
                seen.add(following)
                following = fallbacks[following]
        if not self.allow_private_receivers:
            for receiver in self.receivers:
                if not is_public_host(str(urlsplit(receiver.url).hostname)):
                    raise ValueError(
                        f"the URL of {receiver.name} is a private address; see allow_private_receivers"
                    )
        return self


def is_public_host(host: str) -> bool:
    """False for the text of an address that is not globally reachable; names are judged when they resolve."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() != "localhost"
    return is_public_address(address)


def is_public_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """True for a global unicast address; an IPv4 address inside an IPv6 one is judged as what it is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public_address(inner)
    return address.is_global and not address.is_multicast
