"""Receipts: what is signed comes back, what is changed in any way does not verify."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.errors import WireError
from collector.wire.receipt import (
    PushName,
    Receipt,
    ReceiptSigner,
    Refusal,
    parse_answer,
    parse_key_set,
    render_key_set,
    verify,
)
from kernel.clock import SystemClock
from kernel.identity import CertificateAuthority
from tests.effort import costly

SIGNER = ReceiptSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEYS = {SIGNER.key: SIGNER.public}
NAME = PushName("acme", "prod", "col-1", "billing", 1795363195159, 7, 0)
RECEIPT = Receipt(NAME, "ab" * 32, 42, 1795363195999, (("byoc.samples", 3, 99),))

texts = st.text(max_size=20)
numbers = st.integers(0, 2**63 - 1)
names = st.builds(PushName, texts, texts, texts, texts, numbers, numbers, numbers)
receipts = st.builds(
    Receipt,
    names,
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    numbers,
    numbers,
    st.lists(st.tuples(texts, numbers, numbers), max_size=3).map(tuple),
)


@given(receipts, st.lists(st.builds(Refusal, names, texts, numbers), max_size=2))
def test_an_answer_comes_back_and_verifies(receipt: Receipt, refusals: list[Refusal]) -> None:
    signed, beside = parse_answer(SIGNER.answer(receipt, [SIGNER.sign(one) for one in refusals]))
    verify(signed, KEYS)
    for one in beside:
        verify(one, KEYS)
    assert (signed.content, [one.content for one in beside]) == (receipt, refusals)


def test_the_bytes_of_an_answer_are_those_of_the_specification() -> None:
    assert SIGNER.answer(RECEIPT).startswith(
        b'{"collector":"col-1","epoch":1795363195159,"key":"56475aa75463474c","lane":"billing",'
        b'"log":[["byoc.samples",3,99]],"organization":"acme","part":0,"project":"prod","received_ms":1795363195999,'
        b'"samples":42,"sequence":7,"sha256":"' + b"ab" * 32 + b'","signature":"'
    )


@pytest.mark.parametrize(
    "change",
    [
        replace(RECEIPT, samples=43),
        replace(RECEIPT, sha256="ac" * 32),
        replace(RECEIPT, log=()),
        replace(RECEIPT, name=replace(NAME, sequence=8)),
        replace(RECEIPT, name=replace(NAME, lane="bulk")),
        replace(RECEIPT, name=replace(NAME, collector="col-2")),
    ],
)
def test_a_changed_receipt_does_not_verify(change: Receipt) -> None:
    signed, _ = parse_answer(SIGNER.answer(RECEIPT))
    with pytest.raises(WireError, match="signature"):
        verify(replace(signed, content=change), KEYS)


def test_a_receipt_of_an_unknown_key_does_not_verify() -> None:
    other = ReceiptSigner(Ed25519PrivateKey.generate())
    signed, _ = parse_answer(other.answer(RECEIPT))
    with pytest.raises(WireError, match="receipt key"):
        verify(signed, KEYS)


@costly(100)
@given(
    st.binary(max_size=200)
    | st.recursive(st.integers() | st.text(), st.lists).map(lambda it: json.dumps(it).encode())
)
def test_what_is_no_receipt_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_answer(body)


@pytest.mark.parametrize("field", ["sha256", "signature", "sequence", "log", "v", "refused"])
@pytest.mark.parametrize("value", [None, -1, True, "x", [1], {}])
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    fields = {**json.loads(SIGNER.answer(RECEIPT)), field: value}
    with pytest.raises(WireError):
        parse_answer(json.dumps(fields).encode())


def test_keys_are_taken_from_the_authority_alone(tmp_path: Path) -> None:
    ours = CertificateAuthority.create(tmp_path / "ours", "byoc.test", SystemClock())
    foreign = CertificateAuthority.create(tmp_path / "foreign", "byoc.test", SystemClock())
    private = load_pem_private_key((tmp_path / "ours" / "ca-key.pem").read_bytes(), None)
    assert isinstance(private, EllipticCurvePrivateKey)
    body = render_key_set([SIGNER.public], lambda text: private.sign(text, ECDSA(SHA384())))
    assert list(parse_key_set(body, ours.certificate_pem)) == [SIGNER.key]
    with pytest.raises(WireError):
        parse_key_set(body, foreign.certificate_pem)
    forged = json.loads(body)
    forged["keys"][0]["public"] = b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    with pytest.raises(WireError):
        parse_key_set(json.dumps(forged).encode(), ours.certificate_pem)
