"""Private keys and certificate signing requests: both sides of an enrolment."""

from __future__ import annotations

from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kernel.errors import Finding
from kernel.identity.errors import InvalidRequest

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey

MAX_CSR_BYTES = 16 * 1024
_ALLOWED = "an EC key on P-256 or P-384"


def new_private_key() -> PrivateKey:
    """A new key on P-256, which stays with the collector."""
    return ec.generate_private_key(ec.SECP256R1())


def render_private_key(key: PrivateKey) -> bytes:
    """PKCS #8 PEM, not encrypted: write it with mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def render_csr(key: PrivateKey) -> bytes:
    """A signing request without names: the vendor's side gives the name."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def parse_csr(csr_pem: bytes) -> PublicKey:
    """The public key whose holder signed the request; names and extensions in it are ignored.

    Raises InvalidRequest: too long, no PEM, a signature that is not by this key, a kind of key not allowed.
    """
    if len(csr_pem) > MAX_CSR_BYTES:
        raise _refused("size", f"{len(csr_pem)} bytes", f"at most {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in {"secp256r1", "secp384r1"}:
            raise _refused("key", type(key).__name__, _ALLOWED)
        if not request.is_signature_valid:
            raise _refused("signature", "one that the key did not make", "the signature of its own key")
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _refused("content", str(error) or type(error).__name__, "a PKCS #10 request in PEM") from error
    return key


def _refused(where: str, found: str, allowed: str) -> InvalidRequest:
    return InvalidRequest([Finding("certificate request", where, found, allowed)])
