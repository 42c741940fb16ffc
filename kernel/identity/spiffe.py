"""The name in a collector's certificate: `spiffe://<trust domain>/org/<id>/project/<id>/collector/<id>`.

Syntax after the SPIFFE ID standard, narrowed: no port, no user, no query, no percent escapes, and every id by the
rule of `kernel.ids`. What is not exactly this is no name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kernel.errors import InvalidInput
from kernel.ids import ID_RULE, CollectorId, OrganizationId, ProjectId, Tenant, parse_id

_TRUST_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?", re.ASCII)
_NAME = re.compile(r"spiffe://([^/]{1,255})/org/([^/]{1,63})/project/([^/]{1,63})/collector/([^/]{1,63})", re.ASCII)


@dataclass(frozen=True, slots=True)
class SpiffeName:
    """Who a client certificate speaks for."""

    trust_domain: str
    tenant: Tenant
    collector: CollectorId

    def render(self) -> str:
        """The URI."""
        return (
            f"spiffe://{self.trust_domain}/org/{self.tenant.organization}"
            f"/project/{self.tenant.project}/collector/{self.collector}"
        )


def parse_trust_domain(text: str) -> str:
    """`text` if it may be a trust domain. Raises InvalidInput."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise InvalidInput.single(
            "identity", "trust domain", repr(text), "a lower-case DNS name such as byoc.example"
        )
    return text


def render_authority_name(trust_domain: str) -> str:
    """The URI in the CA's own certificate: the trust domain without a path."""
    return f"spiffe://{trust_domain}"


def parse_authority_name(uri: str) -> str:
    """The trust domain of a CA's URI. Raises InvalidInput."""
    return parse_trust_domain(uri.removeprefix("spiffe://"))


def parse_name(uri: str) -> SpiffeName:
    """The inverse of `SpiffeName.render`. Raises InvalidInput."""
    found = _NAME.fullmatch(uri)
    if not found:
        allowed = f"spiffe://<trust domain>/org/<id>/project/<id>/collector/<id>, ids of {ID_RULE}"
        raise InvalidInput.single("certificate", "URI name", repr(uri), allowed)
    trust_domain, organization, project, collector = found.groups()
    tenant = Tenant(
        OrganizationId(parse_id(organization, "organization", "certificate")),
        ProjectId(parse_id(project, "project", "certificate")),
    )
    name = CollectorId(parse_id(collector, "collector", "certificate"))
    return SpiffeName(parse_trust_domain(trust_domain), tenant, name)
