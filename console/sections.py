"""The sections of the vendor's settings: one YAML file plus environment, read once by `byoc up`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from pydantic import Field

from alerts.settings import AlertSettings
from billing.settings import DeliverySettings, TermsSettings
from kernel.deployment import Deployment
from kernel.environment import Variable, read_json, variables
from kernel.errors import Finding, InvalidInput, raise_findings
from kernel.settings import Section, read_yaml_mapping
from metering.gateway.settings import GatewaySettings
from metering.lake.settings import LakeSettings
from metering.usage.settings import UsageSettings

# Variables that begin with BYOC_ and are no settings of the vendor side: the collector's, the tests'.
OTHERS_PREFIX = "BYOC_COLLECTOR_"
OTHERS_VARIABLES = frozenset({"BYOC_CRASH_AT", "BYOC_CRASH_SIGNAL", "BYOC_REQUIRE_SERVICES"})


class UpSettings(Section):
    """What belongs to the process of `byoc up` and to none of its parts."""

    health_host: str = Field(
        "127.0.0.1", description="Address of /healthz, /readyz and /metrics; default loopback."
    )
    health_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Port of /healthz, /readyz and /metrics; default 9464, 0 takes a free one.",
    )
    stop_seconds: float = Field(
        15.0, gt=0, description="Seconds given to a graceful stop; default 15. Then what is left is cut off."
    )
    month_seconds: float = Field(
        900.0,
        gt=0,
        description="Seconds between two looks whether the hours of a contract's last month are all sealed, which"
        " is then read once, for whoever invoices it; default 900.",
    )
    gauge_seconds: float = Field(
        15.0,
        gt=0,
        description="Seconds between two publications of the licence gauges; default 15. A page about the licence "
        "can't come faster.",
    )


@dataclass(frozen=True, slots=True)
class Sections:
    """The settings of every part, each from its section of the file."""

    up: UpSettings
    gateway: GatewaySettings
    lake: LakeSettings
    usage: UsageSettings
    alerts: AlertSettings
    delivery: DeliverySettings
    terms: TermsSettings


SECTION_NAMES = ("deployment", *(field.name for field in fields(Sections)))


def read_sections(deployment: Deployment) -> Sections:
    """Raises InvalidInput with every finding of every section."""
    found: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, model in get_type_hints(Sections).items():
        try:
            found[name] = deployment.section(name, model)
        except InvalidInput as error:
            findings += error.findings
    raise_findings(findings)
    return Sections(**found)


def refuse_unknown_sections(deployment: Deployment) -> None:
    """A section or a variable that no part reads may be misspelt. Raises InvalidInput.

    Let through: variables of the collector and of tests, those that Kubernetes sets for services, and those that a
    `secret_env` names.
    """
    content = read_yaml_mapping(deployment.source) if deployment.source else {}
    known = ", ".join(SECTION_NAMES)
    findings = [
        Finding(str(deployment.source), "section", repr(name), known)
        for name in content
        if name not in SECTION_NAMES
    ]
    found = variables("BYOC_")
    secrets = {*_secret_variables(content)}
    secrets |= {name for each in found for name in _secret_variables({each.path[-1]: read_json(each.text)})}
    findings += [
        Finding(each.source, "section", repr(each.path[0]), f"BYOC_<SECTION>__<FIELD>, sections: {known}")
        for each in found
        if not _is_known(each) and each.name not in secrets
    ]
    raise_findings(findings)


def _is_known(variable: Variable) -> bool:
    name = variable.name
    return variable.path[0] in SECTION_NAMES or name.startswith(OTHERS_PREFIX) or name in OTHERS_VARIABLES


def _secret_variables(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            if name == "secret_env" and isinstance(value, str):
                yield value
            else:
                yield from _secret_variables(value)
    elif isinstance(content, list):
        for value in content:
            yield from _secret_variables(value)
