"""The identity folder: key and certificate as one file, so that they always fit; the authority; the pseudonym key.

identity.pem        private key and certificate, mode 0600, replaced as a whole at renewal
authority.pem       who signs gateways and collectors, as enrolment answered
pending-key.pem     a key whose certificate is not there yet: a repeated enrolment asks for the same key
pseudonym.key       32 random bytes; never leaves, see collector.policy
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from collector.errors import IdentityRefused
from collector.spool.files import write_atomically
from kernel.errors import InvalidInput, truncate
from kernel.identity import Identity, certificate_identity, new_private_key, render_private_key

_MARKER = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """The certificate in use; times are aware UTC."""

    identity: Identity
    not_before: datetime
    not_after: datetime

    @property
    def renew_at(self) -> datetime:
        """Two thirds of its life."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


class IdentityFolder:
    """Files of one collector's identity. All methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate_path = folder / "identity.pem"
        self.authority_path = folder / "authority.pem"
        self.pseudonym_path = folder / "pseudonym.key"
        self._pending_key = folder / "pending-key.pem"

    def prepare(self) -> None:
        """Make the folder, for us alone."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)

    def is_enrolled(self) -> bool:
        """Whether there is a certificate, good or not."""
        return self.certificate_path.is_file() and self.authority_path.is_file()

    def pending_key(self) -> ec.EllipticCurvePrivateKey:
        """The key to ask a certificate for: the one of an unfinished request, else a new one (stored first)."""
        try:
            key = serialization.load_pem_private_key(self._pending_key.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            key = new_private_key()
            write_atomically(self._pending_key, render_private_key(key))
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise IdentityRefused(f"{self._pending_key} is no EC key: delete it")
        return key

    def save(self, certificate_pem: bytes, authority_pem: bytes) -> HeldCertificate:
        """Keep the certificate that was given for `pending_key`. Raises IdentityRefused when it does not fit."""
        key = self.pending_key()
        certificate = _load(certificate_pem, "the certificate given")
        if certificate.public_key() != key.public_key():
            raise IdentityRefused("the gateway answered with a certificate for another key: enrol again")
        _check_issuer(certificate, authority_pem)
        write_atomically(self.authority_path, authority_pem, 0o644)
        write_atomically(self.certificate_path, render_private_key(key) + certificate_pem)
        self._pending_key.unlink(missing_ok=True)
        return self._held(certificate, certificate_pem)

    def check(self, now: datetime, *, to_renew: bool = False) -> HeldCertificate:
        """Our certificate, checked before a gateway sees it: with TLS 1.3 a refusal looks like a lost connection.

        One that has expired is good enough `to_renew` it; the gateway decides. Raises IdentityRefused, saying what
        to do.
        """
        try:
            content, authority_pem = self.certificate_path.read_bytes(), self.authority_path.read_bytes()
        except OSError as error:
            raise IdentityRefused(f"{error.filename}: {error.strerror}: enrol this collector") from error
        certificate_pem = content[max(0, content.find(_MARKER)) :]
        certificate = _load(certificate_pem, str(self.certificate_path))
        _check_issuer(certificate, authority_pem)
        held = self._held(certificate, certificate_pem)
        if held.not_after <= now and not to_renew:
            raise IdentityRefused(
                f"the certificate of {held.identity.who} expired at {held.not_after.isoformat()}: it renews itself"
                " when the gateway can be reached; if that is refused, get a new enrolment token and enrol again"
            )
        if held.not_before - timedelta(minutes=5) > now:
            raise IdentityRefused(
                f"the certificate of {held.identity.who} begins at {held.not_before.isoformat()}: check the clock"
            )
        return held

    def pseudonym_key(self) -> bytes:
        """The key of pseudonyms, made at first use."""
        path = self.pseudonym_path
        if not path.exists():
            write_atomically(path, os.urandom(32))
        key = path.read_bytes()
        if len(key) < 16:
            raise IdentityRefused(f"{path} is too short to be a key: restore it, or delete it for new pseudonyms")
        return key

    @staticmethod
    def _held(certificate: x509.Certificate, certificate_pem: bytes) -> HeldCertificate:
        try:
            identity = certificate_identity(certificate_pem)
        except InvalidInput as error:
            raise IdentityRefused(f"the certificate names no collector: {error}") from error
        return HeldCertificate(identity, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _load(certificate_pem: bytes, source: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise IdentityRefused(f"{source} is no certificate ({truncate(str(error))}): enrol again") from error


def _check_issuer(certificate: x509.Certificate, authority_pem: bytes) -> None:
    try:
        authorities = x509.load_pem_x509_certificates(authority_pem)
    except ValueError as error:
        raise IdentityRefused(f"the authority is no certificate: {truncate(str(error))}") from error
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise IdentityRefused("this certificate is from another authority than authority.pem: enrol again")
