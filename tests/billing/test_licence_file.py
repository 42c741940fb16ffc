"""Signed licences, and where an organization stands against them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from billing.licence import parse_licence
from billing.licence_file import read_signed_licence, sign_licence
from billing.licence_state import forecast, licence_state
from kernel.errors import InvalidInput, Refuse
from kernel.steps import StepFunction
from kernel.window import DAY_MS, month
from tests.billing.deals import contract_text, licence_text
from tests.billing.test_cli import Desk, desk  # noqa: F401 - a fixture

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNED = sign_licence(licence_text(), KEY, "licence.yaml")
START = month("2026-10").start_ms


def test_a_signed_licence_is_the_licence() -> None:
    assert read_signed_licence(SIGNED, KEY.public_key(), "f") == parse_licence(licence_text(), "f")
    with pytest.raises(InvalidInput, match="one already"):
        sign_licence(SIGNED, KEY, "f")
    with pytest.raises(InvalidInput, match=r"valid\.end"):
        sign_licence(licence_text(valid=("2026-10-01", "2026-10-01")), KEY, "f")


@given(place=st.integers(0, len(SIGNED) - 2), bit=st.integers(0, 6))
def test_no_byte_of_it_can_be_changed(place: int, bit: int) -> None:
    changed = bytearray(SIGNED.encode())
    changed[place] ^= 1 << bit
    text = changed.decode("ascii")
    with pytest.raises(InvalidInput):
        read_signed_licence(text, KEY.public_key(), "f")


def test_another_key_and_no_signature_are_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    with pytest.raises(InvalidInput, match="the vendor's"):
        read_signed_licence(SIGNED, other, "f")
    for text in (licence_text(), "", SIGNED + "more: 1\n"):
        with pytest.raises(InvalidInput, match="none"):
            read_signed_licence(text, KEY.public_key(), "f")


def test_thresholds_are_crossed_at_their_edges() -> None:
    licence = parse_licence(licence_text(vcpu=10), "f")

    def crossed(used: int, days_left: int) -> tuple[str, ...]:
        now_ms = licence.window.end_ms - days_left * DAY_MS
        return licence_state([licence], StepFunction.of([(START, used)]), now_ms).crossed

    assert crossed(6_999, 61) == ()
    assert crossed(7_000, 60) == ("70 %", "60 days")
    assert crossed(8_999, 31) == ("70 %", "60 days")
    assert crossed(10_000, 7) == ("70 %", "90 %", "100 %", "60 days", "30 days", "7 days")


def test_a_line_that_rises_is_followed_to_the_capacity_of_then() -> None:
    now_ms = START + 100 * DAY_MS
    rising = StepFunction.of([(START + day * DAY_MS, 100 * day) for day in range(100)])
    until_ms = now_ms + 300 * DAY_MS
    flat = StepFunction.of([(START, 10_900)])
    reached = forecast(flat, rising, now_ms, until_ms)
    assert reached is not None
    assert abs(reached - (now_ms + 9.5 * DAY_MS)) < DAY_MS
    grows = StepFunction.of([(START, 10_900), (now_ms + 5 * DAY_MS, 20_000)])
    later = forecast(grows, rising, now_ms, until_ms)
    assert later is not None
    assert abs(later - (now_ms + 100.5 * DAY_MS)) < DAY_MS
    assert forecast(flat, StepFunction.of([(START, 500)]), now_ms, until_ms) is None
    assert forecast(flat, StepFunction.of([(START, 10_900)]), now_ms, until_ms) == now_ms


def test_by_command(desk: Desk, tmp_path: Path) -> None:  # noqa: F811
    file, key = desk.file("licence.yaml", licence_text()), tmp_path / "key.pem"
    signed = tmp_path / "signed.yaml"
    desk.say("licence", "sign", file, "--out", str(signed), "--public-key", str(key))
    said = desk.say("licence", "check", str(signed), "--public-key", str(key))
    assert "signature fits" in said
    assert "now 16 vCPU" in said
    old = desk.file("old.yaml", licence_text(valid=("2025-10-01", "2026-10-01")))
    desk.say("licence", "sign", old, "--out", str(signed))
    with pytest.raises(Refuse, match="expired"):
        desk.invoke("licence", "check", str(signed), "--public-key", str(key))
    desk.say("contract", "add", desk.file("contract.yaml", contract_text()))
    desk.say("licence", "add", file)
    assert "0 of 16 vCPU, 16 left" in desk.say("licence", "status", "acme")
