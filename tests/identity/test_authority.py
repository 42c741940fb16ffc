"""The CA: what it signs, and what it refuses to sign."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.clock import VirtualClock
from kernel.errors import InvalidInput
from kernel.identity import CertificateAuthority, certificate_identity, new_private_key, parse_csr, render_csr
from kernel.identity.errors import AuthorityExists, InvalidRequest, NoAuthority
from tests.identity.world import ACME, COLLECTOR

KNOWN_CSR = render_csr(new_private_key())


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def authority(tmp_path: Path, clock: VirtualClock) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca", "byoc.test", clock)


def test_a_client_certificate_carries_the_name_given_and_nothing_of_the_request(
    authority: CertificateAuthority, clock: VirtualClock
) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    evil = x509.UniformResourceIdentifier("spiffe://byoc.test/org/other/project/prod/collector/c1")
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")]))
        .add_extension(x509.SubjectAlternativeName([evil, x509.DNSName("gateway")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    issued = authority.issue_client(request.public_bytes(serialization.Encoding.PEM), ACME, COLLECTOR)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert list(certificate.subject) == []
    names = _extension(certificate, x509.SubjectAlternativeName)
    assert [name.value for name in names] == ["spiffe://byoc.test/org/acme/project/prod/collector/collector-1"]
    assert _extension(certificate, x509.BasicConstraints).ca is False
    assert list(_extension(certificate, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc == clock.now() + timedelta(hours=24)
    assert certificate.public_key() == key.public_key()
    assert certificate_identity(issued.certificate_pem).tenant == ACME
    assert certificate_identity(issued.certificate_pem).serial == issued.serial


def test_a_ca_is_opened_as_it_was_made_and_never_overwritten(tmp_path: Path, clock: VirtualClock) -> None:
    made = CertificateAuthority.create(tmp_path, "byoc.test", clock)
    assert stat.S_IMODE((tmp_path / "ca-key.pem").stat().st_mode) == 0o600
    opened = CertificateAuthority.open(tmp_path, clock)
    assert (opened.trust_domain, opened.certificate_pem) == ("byoc.test", made.certificate_pem)
    before = (tmp_path / "ca-key.pem").read_bytes()
    with pytest.raises(AuthorityExists, match="never overwritten"):
        CertificateAuthority.create(tmp_path, "byoc.test", clock)
    assert (tmp_path / "ca-key.pem").read_bytes() == before


def test_a_ca_that_others_can_read_or_that_is_not_whole_is_not_opened(tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(NoAuthority, match="ca init"):
        CertificateAuthority.open(tmp_path, clock)
    CertificateAuthority.create(tmp_path, "byoc.test", clock)
    (tmp_path / "ca-key.pem").chmod(0o640)
    with pytest.raises(InvalidInput, match="0600"):
        CertificateAuthority.open(tmp_path, clock)
    CertificateAuthority.create(tmp_path / "b", "byoc.test", clock)
    (tmp_path / "ca-key.pem").chmod(0o600)
    (tmp_path / "ca-key.pem").write_bytes((tmp_path / "b" / "ca-key.pem").read_bytes())
    with pytest.raises(InvalidInput, match="another key"):
        CertificateAuthority.open(tmp_path, clock)


def test_a_request_whose_signature_is_not_by_its_key_is_refused() -> None:
    """Else whoever sees a public key could get a certificate for it."""
    der = x509.load_pem_x509_csr(KNOWN_CSR).public_bytes(serialization.Encoding.DER)
    forged = base64.encodebytes(der[:-1] + bytes([der[-1] ^ 1]))
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + forged + b"-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(InvalidRequest, match="signature"):
        parse_csr(pem)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa", "ed25519", "p521", "secp256k1"],
)
def test_other_kinds_of_key_are_refused(key: Any) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    with pytest.raises(InvalidRequest, match="P-256 or P-384"):
        parse_csr(request.public_bytes(serialization.Encoding.PEM))


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda noise: KNOWN_CSR[:-40] + noise))
@settings(max_examples=100)
def test_no_bytes_make_a_request_do_anything_but_be_refused(noise: bytes) -> None:
    try:
        parse_csr(noise)
    except InvalidRequest:
        return
    assert b"CERTIFICATE REQUEST" in noise


def test_a_request_of_a_megabyte_is_not_even_parsed() -> None:
    with pytest.raises(InvalidRequest, match="at most"):
        parse_csr(b"x" * 1_000_000)


def test_the_client_side_needs_nothing_of_the_vendors_install() -> None:
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('sqlalchemy', 'numpy', 'pyarrow', 'alembic'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import kernel.identity, collector.wire.rw1, collector.wire.rw2, collector.wire.headers\n"
        "import collector.wire.snappy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value
