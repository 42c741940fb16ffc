"""The vendor's signature over a document and its usage rows: Ed25519, by a key that the authority certifies."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384

from kernel.base64 import decode_base64
from kernel.errors import InvalidInput

SCHEMA = "byoc/invoice-proof/1"
_KEY_PURPOSE = b"byoc invoice key 1\n"  # so that no other statement of the authority passes for this one


def statement_of(
    document: Mapping[str, Any], encoded: bytes, files: Mapping[str, str], signed_at: str
) -> dict[str, Any]:
    """What is signed of an issued document and its canonical JSON.

    `files`: the sha256 of each file of the bundle that the document itself does not tie; `signed_at`: when, as
    the document states its own `issued_at`.
    """
    usage = document["usage"] or {}
    return {
        "schema": SCHEMA,
        "number": document["number"],
        "legal_entity": document["seller"]["id"],
        "organization": document["customer"]["organization"],
        "period": document["period"]["name"],
        "root": usage.get("merkle_root"),
        "size": usage.get("rows"),
        "sha256": sha256(encoded).hexdigest(),
        "files": dict(files),
        "signed_at": signed_at,
    }


@dataclass(frozen=True, slots=True)
class InvoiceSigner:
    """The vendor's key for documents. `certified`: the authority's ECDSA signature, SHA-384, DER, over the key."""

    key: Ed25519PrivateKey
    certified: bytes

    @classmethod
    def of(cls, key: Ed25519PrivateKey, certify: Callable[[bytes], bytes]) -> InvoiceSigner:
        """`certify` signs by the authority's key."""
        return cls(key, certify(_KEY_PURPOSE + key.public_key().public_bytes_raw()))

    def sign(self, statement: Mapping[str, Any]) -> bytes:
        """`signature.json`: the statement, signature and key, with the authority's signature over the key."""
        signed = {
            "statement": statement,
            "signature": b64encode(self.key.sign(canonical_text(statement))).decode(),
            "public": b64encode(self.key.public_key().public_bytes_raw()).decode(),
            "certified": b64encode(self.certified).decode(),
        }
        return canonical_text(signed)


def check_statement(
    signature: bytes, encoded: bytes, files: Mapping[str, bytes], authority_pem: bytes, source: str
) -> dict[str, Any]:
    """The statement, once authority, key, signature, document and `files` belong together.

    Raises InvalidInput naming what does not.
    """
    statement = open_signed(signature, authority_pem, source)
    found = {name: sha256(content).hexdigest() for name, content in files.items()}
    expected = statement_of(json.loads(encoded), encoded, found, str(statement.get("signed_at")))
    for name, value in expected.items():
        if statement.get(name) != value:
            raise InvalidInput.single(source, f"statement.{name}", repr(statement.get(name)), f"{value!r}")
    return statement


def open_signed(signature: bytes, authority_pem: bytes, source: str) -> dict[str, Any]:
    """What `InvoiceSigner.sign` signed, by a key of this authority. Raises InvalidInput."""
    try:
        signed: Mapping[str, Any] = json.loads(signature)
        public, certified, by_key = (decode_base64(signed[name]) for name in ("public", "certified", "signature"))
        statement = signed["statement"]
        key = Ed25519PublicKey.from_public_bytes(public)
        authority = x509.load_pem_x509_certificate(authority_pem).public_key()
        if not isinstance(statement, dict):
            raise TypeError("a statement is a JSON object")
        text = canonical_text(statement)
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
        key.verify(by_key, text)
    except InvalidSignature:
        raise InvalidInput.single(source, "signature", "another", "one by that key over the statement") from None
    return statement


def canonical_text(value: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
