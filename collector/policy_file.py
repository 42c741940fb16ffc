"""The policy file: YAML, and the customer's Ed25519 signature in its last line or in a file beside it.

    # byoc-policy-signature: <key id> <base64 of 64 bytes>

The signature covers `byoc policy 1` and a zero byte, then every byte of the file before that line (of a detached
one: the whole file). The key id, 16 hex digits of the SHA-256 of the raw public key, only says which key it was.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from collector.errors import PolicyRefused
from collector.policy_settings import PolicyDocument
from kernel.base64 import decode_base64
from kernel.errors import InvalidInput
from kernel.settings import MAX_FILE_BYTES, invalid, parse_yaml

_CONTEXT = b"byoc policy 1\0"
_LINE = re.compile(rb"# byoc-policy-signature: ([0-9a-f]{16}) ([A-Za-z0-9+/=]{1,128})\s*\Z")
_MARK = b"\n# byoc-policy-signature:"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file as read once. `content`: what a signature covers; `signature`: key id and 64 bytes."""

    source: str
    raw: bytes
    content: bytes
    document: PolicyDocument
    signature: tuple[str, bytes] | None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the file, as `sha256sum` prints it."""
        return sha256(self.raw).hexdigest()

    def check_signature(self, key: Ed25519PublicKey) -> None:
        """Raises PolicyRefused when it is not signed by this key."""
        if self.signature is None:
            raise PolicyRefused(f"{self.source}: no signature: `byoc collector policy sign` makes one")
        named, value = self.signature
        if named != key_id(key):
            raise PolicyRefused(f"{self.source}: signed by key {named}; public_key is {key_id(key)}")
        try:
            key.verify(value, _CONTEXT + self.content)
        except InvalidSignature:
            raise PolicyRefused(f"{self.source}: the signature does not fit: changed after it was signed") from None

    def detached_line(self) -> str:
        """Its signature as a line for a file of its own; empty without one."""
        if self.signature is None:
            return ""
        return _render_line(*self.signature)


def read_policy(path: Path, signature_path: Path | None = None) -> PolicyFile:
    """The policy of a file with its signature, if it has one. Blocking. Raises InvalidInput, PolicyRefused."""
    raw = _read(path)
    beside = signature_path or path.with_name(path.name + ".sig")
    detached = _read(beside) if signature_path is not None or (_MARK not in raw and beside.is_file()) else None
    return parse_policy(raw, str(path), detached)


def parse_policy(raw: bytes, source: str, detached: bytes | None = None) -> PolicyFile:
    """The policy of these bytes. Raises InvalidInput with every finding, PolicyRefused for a bad signature."""
    content, signature = _split(raw, source) if detached is None else (raw, _parse_line(detached, source))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput.single(source, f"byte {error.start}", "not UTF-8", "UTF-8 text") from error
    fields = parse_yaml(text, source)
    if fields is None:
        raise InvalidInput.single(source, "document", "nothing", "a policy: allow, drop and so on")
    try:
        document = PolicyDocument.model_validate(fields)
    except ValidationError as error:
        raise invalid(error, source, PolicyDocument) from error
    return PolicyFile(source, raw, content, document, signature)


def sign(content: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature line of these bytes, with its newline."""
    return _render_line(key_id(key.public_key()), key.sign(_CONTEXT + content)).encode()


def unsigned(raw: bytes, source: str) -> bytes:
    """The file without its signature line; it ends with a newline, as a line can follow then."""
    content, _ = _split(raw, source)
    return content if content.endswith(b"\n") else content + b"\n"


def key_id(key: Ed25519PublicKey) -> str:
    """16 hex digits that name a public key."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sha256(raw).hexdigest()[:16]


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Raises InvalidInput."""
    try:
        key = serialization.load_pem_public_key(_read(path))
    except ValueError as error:
        raise InvalidInput.single(str(path), "file", "no public key", "PEM of an Ed25519 public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput.single(str(path), "file", "another kind of key", "PEM of an Ed25519 public key")
    return key


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Raises InvalidInput, which shows nothing of the file."""
    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise InvalidInput.single(
            str(path), "file", "no private key", "PEM of an Ed25519 key, no password"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput.single(str(path), "file", "another kind of key", "PEM of an Ed25519 key")
    return key


def render_keys(key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    """PEM of the private key and of the public one."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def _render_line(name: str, value: bytes) -> str:
    return f"# byoc-policy-signature: {name} {base64.b64encode(value).decode()}\n"


def _split(raw: bytes, source: str) -> tuple[bytes, tuple[str, bytes] | None]:
    at = raw.rfind(_MARK) + 1  # of the comment; 0: there is none
    if at == 0:
        return raw, None
    return raw[:at], _parse_line(raw[at:], source)


def _parse_line(line: bytes, source: str) -> tuple[str, bytes]:
    found = _LINE.fullmatch(line)
    try:
        value = decode_base64(found[2].decode()) if found else b""
    except ValueError:
        value = b""
    if found is None or len(value) != 64:
        raise PolicyRefused(f"{source}: the signature is none: it has to be one line, the last of the file")
    return found[1].decode(), value


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror or str(error), "a readable file") from error
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidInput.single(str(path), "size", "a larger one", f"at most {MAX_FILE_BYTES} bytes")
    return raw
