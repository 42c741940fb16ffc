"""Who is at the other end of a connection."""

from __future__ import annotations

import ssl
from asyncio import BaseTransport
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from kernel.errors import InvalidInput
from kernel.identity.spiffe import SpiffeName, parse_name
from kernel.ids import CollectorId, Tenant


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified client certificate says, and nothing else does."""

    tenant: Tenant
    collector: CollectorId
    serial: str  # lower-case hexadecimal, without leading zeros
    not_before: datetime  # aware UTC; the certificate is good from then on
    not_after: datetime  # and before this

    @property
    def who(self) -> str:
        """`organization/project/collector`."""
        return f"{self.tenant}/{self.collector}"


def peer_identity(transport: BaseTransport | None, trust_domain: str | None = None) -> Identity | None:
    """The identity of the verified client certificate of a connection, resumed sessions included.

    None when there is no TLS, no certificate, or one without exactly one well-formed URI name (of `trust_domain`,
    if that is given). The handshake has checked the chain; expiry and revocation are the caller's to check at every
    request, since a connection and a resumed session outlive them.
    """
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    name = _single_name(uris, trust_domain)
    if name is None:
        return None
    return Identity(
        tenant=name.tenant,
        collector=name.collector,
        serial=render_serial(int(certificate["serialNumber"], 16)),
        not_before=_moment(certificate["notBefore"]),
        not_after=_moment(certificate["notAfter"]),
    )


def certificate_identity(certificate_pem: bytes) -> Identity:
    """The identity in a certificate file, unverified: for its own holder. Raises InvalidInput."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names: Any = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise InvalidInput.single("certificate", "file", str(error), "a PEM certificate with a URI name") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise InvalidInput.single("certificate", "URI names", len(uris), "exactly one")
    name = parse_name(uris[0])
    return Identity(
        name.tenant,
        name.collector,
        render_serial(certificate.serial_number),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def render_serial(serial: int) -> str:
    """A serial number as it is stored and shown."""
    return format(serial, "x")


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


def _single_name(uris: list[str], trust_domain: str | None) -> SpiffeName | None:
    if len(uris) != 1:
        return None
    try:
        name = parse_name(uris[0])
    except InvalidInput:
        return None
    return name if trust_domain in {None, name.trust_domain} else None
