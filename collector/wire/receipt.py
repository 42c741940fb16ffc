"""Receipts: what the gateway signs for a push that is durable in its log, and for one that was refused later.

A receipt is canonical JSON (sorted keys, no spaces, UTF-8) with an Ed25519 signature over the same JSON without
`signature` and `refused`. An answer to a push is one receipt; beside it `refused` may list refusals, each signed by
itself: pushes that were accepted and could not be stored after all. The public keys are signed by the authority of
the collector's certificate (ECDSA with SHA-384 over the canonical JSON of `{key, public, v}`), so whoever holds
the authority's certificate can judge a receipt alone and later.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Generic, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384

from collector.wire.errors import WireError
from kernel.base64 import decode_base64
from kernel.errors import Finding, truncate

VERSION = 1
CONTENT_TYPE_RECEIPT = "application/json"
RECEIPT_KEYS_PATH = "/api/v1/receipt-keys"
MAX_RECEIPT_BYTES = 64 * 1024

T = TypeVar("T")
LogPosition = tuple[str, int, int]  # topic, partition, offset
KeySet = Mapping[str, Ed25519PublicKey]  # by key name


@dataclass(frozen=True, slots=True)
class PushName:
    """Which push of which collector. The lane by its wire name."""

    organization: str
    project: str
    collector: str
    lane: str
    epoch: int
    sequence: int
    part: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The push `name`, whose body as sent has the hash `sha256` (hex), is durable at the positions of `log`."""

    name: PushName
    sha256: str
    samples: int
    received_ms: int
    log: tuple[LogPosition, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The push `name` was accepted, and could not be stored: nothing of it will be in the lake."""

    name: PushName
    reason: str
    refused_ms: int
    offset: int | None = field(default=None, compare=False)  # where it stands in the gateway's log; not signed


@dataclass(frozen=True, slots=True)
class Signed(Generic[T]):
    """What was signed, by which key; `signature` 64 bytes."""

    content: T
    key: str
    signature: bytes


class ReceiptSigner:
    """Signs with one Ed25519 key, named after itself."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key()
        self.key = key_name(self.public)

    def sign(self, content: Receipt | Refusal) -> dict[str, Any]:
        """The fields of a signed receipt or refusal, as they go into JSON."""
        fields = _fields(content, self.key)
        return {**fields, "signature": b64encode(self._private.sign(canonical(fields))).decode()}

    def answer(self, receipt: Receipt, refused: Iterable[Mapping[str, Any]] = ()) -> bytes:
        """The body of the answer to a push; `refused` as `sign` gave them."""
        beside = list(refused)
        return canonical({**self.sign(receipt), **({"refused": beside} if beside else {})})


def canonical(fields: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, integers and text alone."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def key_name(public: Ed25519PublicKey) -> str:
    """16 hex digits of the key's SHA-256."""
    return sha256(public.public_bytes_raw()).hexdigest()[:16]


def parse_answer(body: bytes) -> tuple[Signed[Receipt], list[Signed[Refusal]]]:
    """The receipt of an answer and the refusals beside it; nothing is verified yet. Raises WireError."""
    fields = _load(body, "receipt")
    try:
        beside = fields.get("refused", [])
        if not isinstance(beside, list):
            raise TypeError("`refused` is a list")
        return _signed_receipt(fields), [_signed_refusal(one) for one in beside]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong("receipt", f"{error!r}") from error


def render_refusal(signed: Signed[Refusal]) -> str:
    """As JSON, to be kept in a record; `parse_refusal` is the inverse."""
    return json.dumps({"refusal": asdict(signed.content), "key": signed.key, "signature": signed.signature.hex()})


def parse_refusal(text: str) -> Signed[Refusal]:
    """What `render_refusal` gave. Raises ValueError."""
    try:
        fields = json.loads(text)
        refusal = fields["refusal"]
        content = Refusal(PushName(**refusal["name"]), refusal["reason"], refusal["refused_ms"])
        return Signed(content, fields["key"], bytes.fromhex(fields["signature"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no refusal: {error!r}") from error


def verify(signed: Signed[Receipt] | Signed[Refusal], keys: KeySet) -> None:
    """Raises WireError when the key is unknown or the signature is of something else."""
    public = keys.get(signed.key)
    if public is None:
        raise _wrong("receipt key", signed.key, "one of the key set")
    try:
        public.verify(signed.signature, canonical(_fields(signed.content, signed.key)))
    except InvalidSignature:
        raise _wrong("receipt signature", str(signed.content), f"a signature by {signed.key}") from None


def render_key_set(publics: Iterable[Ed25519PublicKey], sign: Callable[[bytes], bytes]) -> bytes:
    """The answer of `GET /api/v1/receipt-keys`. `sign`: ECDSA with SHA-384 (DER) by the authority's key."""
    keys = [{**_key_fields(public), "signature": b64encode(sign(_key_text(public))).decode()} for public in publics]
    return canonical({"v": VERSION, "keys": keys})


def parse_key_set(body: bytes, authority_pem: bytes) -> dict[str, Ed25519PublicKey]:
    """The keys that the authority's certificate vouches for, by name. Raises WireError for any other."""
    authority = x509.load_pem_x509_certificate(authority_pem).public_key()
    if not isinstance(authority, EllipticCurvePublicKey):
        raise _wrong("authority", type(authority).__name__, "an EC key")
    found = {}
    try:
        for fields in _load(body, "receipt keys")["keys"]:
            public = Ed25519PublicKey.from_public_bytes(decode_base64(fields["public"]))
            authority.verify(decode_base64(fields["signature"]), _key_text(public), ECDSA(SHA384()))
            found[key_name(public)] = public
    except (KeyError, TypeError, ValueError, InvalidSignature) as error:
        raise _wrong("receipt keys", f"{error!r}", "keys signed by the authority") from error
    return found


def _key_fields(public: Ed25519PublicKey) -> dict[str, Any]:
    return {"v": VERSION, "key": key_name(public), "public": b64encode(public.public_bytes_raw()).decode()}


def _key_text(public: Ed25519PublicKey) -> bytes:
    return canonical(_key_fields(public))


def _fields(content: Receipt | Refusal, key: str) -> dict[str, Any]:
    name = content.name
    fields: dict[str, Any] = {
        "v": VERSION,
        "organization": name.organization,
        "project": name.project,
        "collector": name.collector,
        "lane": name.lane,
        "epoch": name.epoch,
        "sequence": name.sequence,
        "part": name.part,
        "key": key,
    }
    if isinstance(content, Refusal):
        return {**fields, "reason": content.reason, "refused_ms": content.refused_ms}
    log = [list(position) for position in content.log]
    return {
        **fields,
        "sha256": content.sha256,
        "samples": content.samples,
        "received_ms": content.received_ms,
        "log": log,
    }


def _signed_receipt(fields: Mapping[str, Any]) -> Signed[Receipt]:
    if not isinstance(fields["log"], list):
        raise TypeError("`log` is a list of positions")
    log = tuple((_text(topic), _integer(part), _integer(offset)) for topic, part, offset in fields["log"])
    digest = _text(fields["sha256"])
    if len(bytes.fromhex(digest)) != 32 or digest != digest.lower():
        raise ValueError("sha256 is 64 lower-case hex digits")
    receipt = Receipt(
        _name(fields), digest, _integer(fields["samples"]), _integer(fields["received_ms"]), log
    )  # fmt: skip
    return Signed(receipt, _text(fields["key"]), _signature(fields))


def _signed_refusal(fields: Mapping[str, Any]) -> Signed[Refusal]:
    offset = _integer(fields["offset"]) if "offset" in fields else None
    refusal = Refusal(_name(fields), _text(fields["reason"]), _integer(fields["refused_ms"]), offset)
    return Signed(refusal, _text(fields["key"]), _signature(fields))


def _name(fields: Mapping[str, Any]) -> PushName:
    if _integer(fields["v"]) != VERSION:
        raise ValueError(f"receipt version {fields['v']!r}")
    texts = [_text(fields[name]) for name in ("organization", "project", "collector", "lane")]
    numbers = [_integer(fields[name]) for name in ("epoch", "sequence", "part")]
    return PushName(texts[0], texts[1], texts[2], texts[3], numbers[0], numbers[1], numbers[2])


def _signature(fields: Mapping[str, Any]) -> bytes:
    signature = decode_base64(_text(fields["signature"]))
    if len(signature) != 64:
        raise ValueError("a signature has 64 bytes")
    return signature


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is wanted, not {value!r}")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise TypeError(f"an integer is wanted, not {value!r}")
    return value


def _load(body: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _wrong(what, body[:80].decode("utf-8", "replace")) from error
    if not isinstance(fields, dict):
        raise _wrong(what, type(fields).__name__)
    return fields


def _wrong(what: str, found: str, allowed: str = "canonical JSON of docs/wire.md") -> WireError:
    return WireError([Finding("receipt", what, truncate(found), allowed)])
