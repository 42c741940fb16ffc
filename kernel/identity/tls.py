"""TLS on both sides: 1.2 at least, AES-256-GCM alone, certificates of our own CA alone.

Python 3.11 can't choose the suites of TLS 1.3 (`SSLContext.set_ciphersuites` is newer), so the server prefers its
own order, whose first is AES-256-GCM, and refuses after the handshake what a peer without that suite negotiated:
see `is_strong`. Checked by name, since ChaCha20 has 256 bits too.
"""

from __future__ import annotations

import ssl
from asyncio import BaseTransport
from pathlib import Path

from kernel.errors import InvalidInput

TLS12_CIPHERS = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which Python has no name
ALLOWED_CIPHERS = frozenset({*TLS12_CIPHERS.split(":"), "TLS_AES_256_GCM_SHA384"})


def server_context(certificate: Path, private_key: Path, authority_pem: bytes) -> ssl.SSLContext:
    """The gateway's context: a client certificate is checked if one is sent (`/enrol` has none yet).

    Its times are not: whoever accepts a request checks them then (`Identity.not_before`, `not_after`), and lets an
    expired one renew itself, which a handshake that refuses it could not.
    Raises InvalidInput when the files don't fit. `load_certificate` replaces the certificate while it is in use.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    load_certificate(context, certificate, private_key)
    return context


def client_context(
    authority_pem: bytes, certificate: Path | None = None, private_key: Path | None = None
) -> ssl.SSLContext:
    """The collector's context: trusts `authority_pem` alone and checks the host name. Raises InvalidInput.

    Without `certificate` it can enrol and nothing else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    try:
        context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput.single("TLS", "authority", str(error), "PEM certificates") from error
    if certificate is not None and private_key is not None:
        load_certificate(context, certificate, private_key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    """Give `context` a certificate, also in use: handshakes from now on show it. Raises InvalidInput."""
    try:
        context.load_cert_chain(certificate, private_key)
    except (ssl.SSLError, OSError) as error:
        allowed = f"a certificate with its key in {private_key}"
        raise InvalidInput.single(str(certificate), "certificate", str(error), allowed) from error


def is_strong(transport: BaseTransport | None) -> bool:
    """Whether the connection is TLS with a suite that we allow."""
    cipher = transport.get_extra_info("cipher") if transport is not None else None
    return cipher is not None and cipher[0] in ALLOWED_CIPHERS


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS12_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_STRICT
