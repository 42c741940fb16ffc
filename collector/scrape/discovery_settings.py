"""`http_sd_configs` and `kubernetes_sd_configs`, as Prometheus users know them."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, field_validator, model_validator

from collector.client.settings import HttpClientSettings, check_http_url
from collector.spelling import Duration
from kernel.settings import Section


class HttpSdConfig(HttpClientSettings):
    """Targets in JSON from a server, asked for again and again."""

    url: str = Field(description="http[s]:// URL that answers a JSON list of target groups; no default.")
    refresh_interval: Duration = Field(
        60.0, gt=0, description="Seconds from request to request; default 1m. Longer: changes are seen later."
    )

    @field_validator("url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        return check_http_url(url)


class Role(StrEnum):
    """What becomes a target."""

    POD = "pod"
    SERVICE = "service"
    ENDPOINTS = "endpoints"
    ENDPOINTSLICE = "endpointslice"


SELECTABLE = {
    Role.POD: frozenset({Role.POD}),
    Role.SERVICE: frozenset({Role.SERVICE}),
    Role.ENDPOINTS: frozenset({Role.POD, Role.SERVICE, Role.ENDPOINTS}),
    Role.ENDPOINTSLICE: frozenset({Role.POD, Role.SERVICE, Role.ENDPOINTSLICE}),
}


class NamespaceSettings(Section):
    """Where to look."""

    own_namespace: bool = Field(False, description="Look in the namespace that this pod runs in; default false.")
    names: tuple[str, ...] = Field((), description="Namespaces to look in; default all of them.")


class SelectorSettings(Section):
    """Which objects the API server shall tell us of at all."""

    role: Role = Field(description="pod, service, endpoints or endpointslice; no default.")
    label: str = Field("", description="Label selector as of kubectl -l; default none.")
    field: str = Field("", description="Field selector such as status.phase=Running; default none.")


class KubernetesSdConfig(HttpClientSettings):
    """Targets that a Kubernetes API server knows, followed by list and watch."""

    role: Role = Field(description="pod, service, endpoints or endpointslice; no default.")
    api_server: str | None = Field(
        None, description="URL of the API server; default the one of the cluster that this pod runs in."
    )
    namespaces: NamespaceSettings = Field(NamespaceSettings(), description="Where to look; default everywhere.")
    selectors: tuple[SelectorSettings, ...] = Field(
        (), description="At most one a role: what the API server leaves out; default none."
    )

    @field_validator("api_server")
    @classmethod
    def _absolute(cls, url: str | None) -> str | None:
        return url and check_http_url(url).rstrip("/")

    @model_validator(mode="after")
    def _check_kubernetes(self) -> Self:
        own = set(HttpClientSettings.model_fields) & self.model_fields_set
        if self.api_server is None and own - {"follow_redirects"}:
            raise ValueError(f"{', '.join(sorted(own))}: only with api_server; the cluster's own needs none of it")
        roles = [one.role for one in self.selectors]
        if len(set(roles)) < len(roles):
            raise ValueError("at most one selector of a role")
        if not set(roles) <= SELECTABLE[self.role]:
            allowed = ", ".join(sorted(SELECTABLE[self.role]))
            raise ValueError(f"role {self.role} takes selectors of {allowed}")
        return self
