"""A licence as a file that the data plane checks offline: YAML, and the vendor's signature as its last line.

    # byoc-licence-signature: <key id> <base64 of 64 bytes>

The Ed25519 signature covers `byoc licence 1` and a zero byte, then every byte before that line. The key id, 16 hex
digits of the SHA-256 of the raw public key, only says which key it was.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from billing.licence import Licence, parse_licence
from kernel.base64 import decode_base64
from kernel.errors import InvalidInput

_CONTEXT = b"byoc licence 1\0"
_LINE = re.compile(r"# byoc-licence-signature: ([0-9a-f]{16}) ([A-Za-z0-9+/=]{88})\n?")


def sign_licence(text: str, key: Ed25519PrivateKey, source: str) -> str:
    """The signed file of a licence. Raises InvalidInput when the licence is not valid, or signed already."""
    parse_licence(text, source)
    if _LINE.search(text):
        raise InvalidInput.single(source, "signature", "one already", "a licence that is not signed")
    body = text if text.endswith("\n") else text + "\n"
    value = base64.b64encode(key.sign(_CONTEXT + body.encode())).decode()
    return f"{body}# byoc-licence-signature: {key_id(key.public_key())} {value}\n"


def read_signed_licence(text: str, key: Ed25519PublicKey, source: str) -> Licence:
    """The licence of a signed file. Raises InvalidInput: not signed, by another key, changed, or not a licence."""
    body, newline, last = text.rstrip("\n").rpartition("\n")
    found = _LINE.fullmatch(last)
    if not newline or found is None:
        raise InvalidInput.single(source, "signature", "none", "a last line that `byoc licence sign` wrote")
    named, value = found.groups()
    if named != key_id(key):
        raise InvalidInput.single(source, "signature", f"key {named}", f"key {key_id(key)}, the vendor's")
    try:
        key.verify(decode_base64(value), _CONTEXT + body.encode() + b"\n")
    except (InvalidSignature, ValueError) as error:
        allowed = "the bytes that were signed: the file was changed afterwards"
        raise InvalidInput.single(source, "signature", "one that does not fit", allowed) from error
    return parse_licence(body + "\n", source)


def parse_public_key(pem: bytes, source: str) -> Ed25519PublicKey:
    """Raises InvalidInput."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise InvalidInput.single(source, "key", "no PEM", "an Ed25519 public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput.single(source, "key", type(key).__name__, "an Ed25519 public key in PEM")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Names a key; proves nothing."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sha256(raw).hexdigest()[:16]
