"""The vendor's signature over an invoice and its usage rows: Ed25519, by a key that the authority certifies."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384

from kernel.errors import InvalidInput

SCHEMA = "byoc/invoice-proof/1"
_KEY_PURPOSE = b"byoc invoice key 1\n"  # so that no other statement of the authority passes for this one


def statement_of(encoded: bytes, steps: bytes | None) -> dict[str, Any]:
    """What is signed of an issued document, given as its canonical JSON, and of `steps.json` where it has usage."""
    document = json.loads(encoded)
    usage = document["usage"] or {}
    return {
        "schema": SCHEMA,
        "number": document["number"],
        "organization": document["customer"]["organization"],
        "period": document["period"]["name"],
        "root": usage.get("merkle_root"),
        "size": usage.get("rows"),
        "sha256": sha256(encoded).hexdigest(),
        "steps_sha256": None if steps is None else sha256(steps).hexdigest(),
    }


def sign_statement(
    encoded: bytes, steps: bytes | None, key: Ed25519PrivateKey, certify: Callable[[bytes], bytes]
) -> bytes:
    """`signature.json`. `certify`: ECDSA with SHA-384 (DER) by the authority's key."""
    public = key.public_key().public_bytes_raw()
    statement = statement_of(encoded, steps)
    signed = {
        "statement": statement,
        "signature": b64encode(key.sign(_text(statement))).decode(),
        "public": b64encode(public).decode(),
        "certified": b64encode(certify(_KEY_PURPOSE + public)).decode(),
    }
    return _text(signed)


def check_statement(
    signature: bytes, encoded: bytes, steps: bytes | None, authority_pem: bytes, source: str
) -> None:
    """That authority, key, signature and document belong together. Raises InvalidInput naming what does not."""
    try:
        signed: Mapping[str, Any] = json.loads(signature)
        public, certified = (
            b64decode(signed["public"], validate=True),
            b64decode(signed["certified"], validate=True),
        )
        by_key, statement = b64decode(signed["signature"], validate=True), signed["statement"]
        key = Ed25519PublicKey.from_public_bytes(public)
        authority = x509.load_pem_x509_certificate(authority_pem).public_key()
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput.single(source, "signature", repr(error), "what `byoc invoice bundle` writes") from error
    if not isinstance(authority, EllipticCurvePublicKey):
        raise InvalidInput.single(
            source, "authority", type(authority).__name__, "the certificate of `byoc ca show`"
        )
    try:
        authority.verify(certified, _KEY_PURPOSE + public, ECDSA(SHA384()))
    except InvalidSignature:
        raise InvalidInput.single(source, "public", "an unknown key", "a key that this authority signed") from None
    try:
        key.verify(by_key, _text(statement))
    except InvalidSignature:
        raise InvalidInput.single(source, "signature", "another", "one by that key over the statement") from None
    for name, value in statement_of(encoded, steps).items():
        if statement.get(name) != value:
            raise InvalidInput.single(source, f"statement.{name}", repr(statement.get(name)), f"{value!r}")


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
