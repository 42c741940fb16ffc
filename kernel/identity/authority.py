"""The vendor's own certificate authority: a folder with `ca.pem` and `ca-key.pem`.

One self-signed EC P-384 root with path length 0, so that nothing it signs can sign. Profiles after RFC 5280 and
the SPIFFE X.509-SVID standard: a client's name is its single URI, a server's are DNS names and addresses.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kernel.clock import Clock
from kernel.errors import InvalidInput, Stop
from kernel.identity.csr import PrivateKey, PublicKey, new_private_key, parse_csr, render_private_key
from kernel.identity.errors import AuthorityExists, NoAuthority
from kernel.identity.peer import render_serial
from kernel.identity.receipt_key import open_receipt_key
from kernel.identity.spiffe import SpiffeName, parse_authority_name, parse_trust_domain, render_authority_name
from kernel.ids import CollectorId, Tenant

CERTIFICATE_FILE = "ca.pem"
KEY_FILE = "ca-key.pem"
CLIENT_LIFETIME = timedelta(hours=24)
SERVER_LIFETIME = timedelta(days=30)
AUTHORITY_LIFETIME = timedelta(days=3650)
MAX_RENEWAL_GRACE = timedelta(days=90)  # an expired certificate may renew itself for so long, at most
BACKDATE = timedelta(minutes=5)  # a peer whose clock is a little behind must not see "not yet valid"


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate that was signed; `private_key_pem` only where the CA made the key (servers)."""

    certificate_pem: bytes
    serial: str
    issued_at: datetime
    not_after: datetime
    private_key_pem: bytes | None = None


class CertificateAuthority:
    """Signs; keeps no list of what it signed (`kernel.identity.enrolment` does)."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey, clock: Clock, folder: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self.client_lifetime = CLIENT_LIFETIME
        self._folder = folder
        self.trust_domain = _trust_domain(certificate)
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def create(cls, folder: Path, trust_domain: str, clock: Clock) -> CertificateAuthority:
        """A new CA in `folder`. Raises AuthorityExists (nothing is overwritten), InvalidInput."""
        parse_trust_domain(trust_domain)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (KEY_FILE, CERTIFICATE_FILE):
            if (folder / name).exists():
                raise AuthorityExists(
                    f"{folder / name} exists: a CA is never overwritten. Move it away to start anew"
                )
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = _self_signed(key, trust_domain, clock.now())
        _write_new(folder / KEY_FILE, render_private_key(key), 0o600)
        _write_new(folder / CERTIFICATE_FILE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        open_receipt_key(folder)
        return cls(certificate, key, clock, folder)

    @classmethod
    def open(cls, folder: Path, clock: Clock) -> CertificateAuthority:
        """The CA in `folder`. Raises NoAuthority, InvalidInput (files damaged, or readable by others)."""
        key_path, certificate_path = folder / KEY_FILE, folder / CERTIFICATE_FILE
        try:
            key_pem, certificate_pem = key_path.read_bytes(), certificate_path.read_bytes()
        except OSError as error:
            raise NoAuthority(f"no CA in {folder} ({error.strerror}): `byoc ca init` makes one") from error
        mode = key_path.stat().st_mode & 0o777
        if mode & 0o077:
            raise InvalidInput.single(str(key_path), "mode", f"{mode:04o}", "0600: readable by its owner alone")
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
            certificate = x509.load_pem_x509_certificate(certificate_pem)
        except (ValueError, TypeError) as error:
            raise InvalidInput.single(str(folder), "CA files", str(error), "the files of `byoc ca init`") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise InvalidInput.single(str(folder), "CA key", "another key", f"the key of {CERTIFICATE_FILE}")
        return cls(certificate, key, clock, folder)

    def receipt_key(self) -> ed25519.Ed25519PrivateKey:
        """The key that signs receipts, from the authority's folder; made if there is none. Raises InvalidInput."""
        return open_receipt_key(self._folder)

    def sign_statement(self, message: bytes) -> bytes:
        """An ECDSA signature with SHA-384 over what is no certificate: the statement about a receipt key.

        Deterministic (RFC 6979), so that a run that is made again signs with the same bytes.
        """
        return self._key.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))

    def issue_client(
        self, csr_pem: bytes, tenant: Tenant, collector: CollectorId, lifetime: timedelta | None = None
    ) -> IssuedCertificate:
        """A client certificate for the key of `csr_pem`, in the name given here; it lives for `client_lifetime`
        unless told otherwise. Raises InvalidRequest.
        """
        uri = SpiffeName(self.trust_domain, tenant, collector).render()
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        chosen = self.client_lifetime if lifetime is None else lifetime
        return self._issue(parse_csr(csr_pem), names, ExtendedKeyUsageOID.CLIENT_AUTH, chosen)

    def issue_server(self, host_names: Sequence[str], lifetime: timedelta = SERVER_LIFETIME) -> IssuedCertificate:
        """A server certificate with its new key, for DNS names and IP addresses. Raises InvalidInput."""
        if not host_names:
            raise InvalidInput.single("server certificate", "host names", "none", "at least one")
        key = new_private_key()
        names = x509.SubjectAlternativeName([_host_name(text) for text in host_names])
        issued = self._issue(key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, lifetime)
        return IssuedCertificate(
            issued.certificate_pem, issued.serial, issued.issued_at, issued.not_after, render_private_key(key)
        )

    def _issue(
        self,
        key: PublicKey,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        lifetime: timedelta,
    ) -> IssuedCertificate:
        now = self._clock.now().replace(microsecond=0)
        if now >= self._certificate.not_valid_after_utc:
            raise Stop(f"the CA expired on {self._certificate.not_valid_after_utc:%Y-%m-%d}: make a new one")
        not_after = min(now + lifetime, self._certificate.not_valid_after_utc)
        builder = (
            _builder(key, self._certificate.subject, x509.Name([]))
            .not_valid_before(now - BACKDATE)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=True)  # RFC 5280 4.2.1.6: critical when the subject is empty
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        signed = builder.sign(self._key, hashes.SHA384())
        pem = signed.public_bytes(serialization.Encoding.PEM)
        return IssuedCertificate(pem, render_serial(signed.serial_number), now, not_after)


def _builder(key: PublicKey, issuer: x509.Name, subject: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .issuer_name(issuer)
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _self_signed(key: PrivateKey, trust_domain: str, now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"byoc {trust_domain}"[:64])])
    name = x509.UniformResourceIdentifier(render_authority_name(trust_domain))
    builder = (
        _builder(key.public_key(), subject, subject)
        .not_valid_before(now.replace(microsecond=0) - BACKDATE)
        .not_valid_after(now.replace(microsecond=0) + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
    )
    return builder.sign(key, hashes.SHA384())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise InvalidInput.single("server certificate", "host name", repr(text), "a DNS name or address") from error


def _trust_domain(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        uris: list[str] = []
    else:
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise InvalidInput.single("CA certificate", "URI names", len(uris), "exactly one, the trust domain")
    return parse_authority_name(uris[0])


def _write_new(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
