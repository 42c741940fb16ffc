"""Who is who: an own CA, enrolment, revocation, TLS.

These names need only the base install. `EnrolmentTokens` (`kernel.identity.enrolment`) and `Revocations`
(`kernel.identity.revocation`) need the vendor's database and are imported from there.
"""

from kernel.identity.authority import CertificateAuthority, IssuedCertificate
from kernel.identity.csr import new_private_key, parse_csr, render_csr, render_private_key
from kernel.identity.peer import Identity, certificate_identity, peer_identity
from kernel.identity.spiffe import SpiffeName, parse_name
from kernel.identity.tls import client_context, is_strong, load_certificate, server_context

__all__ = [
    "CertificateAuthority",
    "Identity",
    "IssuedCertificate",
    "SpiffeName",
    "certificate_identity",
    "client_context",
    "is_strong",
    "load_certificate",
    "new_private_key",
    "parse_csr",
    "parse_name",
    "peer_identity",
    "render_csr",
    "render_private_key",
    "server_context",
]
