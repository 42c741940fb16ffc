"""Whole documents are made again from their bundles: tax, discounts, draws, corrections, estimates, true-ups.

The vendor of these tests signs what it changed: only the arithmetic can find it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from billing.proof.checkpoint import CHECKPOINTS
from billing.proof.prepaid import SCHEMA
from billing.proof.rows import (
    CAPACITY,
    CORRECTED,
    DRAWN,
    EARLIER,
    INVOICE,
    METERS,
    NOW,
    PREPAID,
    SIGNATURE,
    STEPS,
    THRESHOLDS,
    now_steps,
)
from billing.proof.statement import InvoiceSigner, statement_of
from billing.proof.verify import Verified, verify_bundle
from kernel.errors import InvalidInput
from kernel.identity.receipt_key import open_invoice_key
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.store import UsageStore
from tests.billing.metered_world import Metered
from tests.billing.test_cli import FIRST
from tests.usage.months import nothing_seen, seen, to_seal

OCTOBER = "EXAMPLE-EU-2026-000002"
USERS = """
charges:
  - charge: users
    description: Users
    meter: users
    steps:
      - {start: 2026-10-30, model: {kind: per-unit, unit: "2"}}
"""
MORE = 'tax: {category: S, rate: "19"}\ngap_policy: estimate\n'
Change = Callable[[dict[str, Any]], None]


class Everything(Metered):
    """October has a gap, and more of everything once it is billed; two prepaid credits pay a part."""

    def seal_licence(self, of: str) -> None:
        if of == "2026-11":
            self.seal_meters(extra=3)
            self.seal_october(missing=2)
            self.seal_term(above=True, of=of)
            return
        for name, amount in (("bought-1", "160.00"), ("bought-2", "200.00")):
            words = ("credit", "add", name, "acme", amount, "--currency", "USD", "--reference", f"wire-{name}")
            self.say(*words)
        self.seal_october(missing=3)

    def seal_october(self, missing: int, level: int = 20_000) -> None:
        """Two days at 20 vCPU, 4 above the commitment; nobody heard from 10:00 on for some hours."""
        hours = enumerate(hours_in(Window(FIRST.start_ms, month("2026-10").end_ms)))
        gone, late, files = range(10, 10 + missing), 12, f"{missing}{level}"
        found = [
            to_seal(
                hour, nothing_seen(hour) if at in gone else seen(hour, 23_000 if at == late else level), files=files
            )
            for at, hour in hours
        ]
        UsageStore(self.deployment.database()).seal(found, self.deployment.clock.now_ms())

    def resign(self, bundle: Path, change: Change) -> None:
        (bundle / CHECKPOINTS).unlink(missing_ok=True)
        document = json.loads((bundle / INVOICE).read_bytes())
        change(document)
        encoded = json.dumps(document).encode()
        (bundle / INVOICE).write_bytes(encoded)
        names = [STEPS, *(now_steps(each["number"]) for each in document.get("corrections", ()))]
        files = {name: sha256((bundle / name).read_bytes()).hexdigest() for name in names}
        signer = InvoiceSigner.of(open_invoice_key(self.deployment.authority_folder), self.authority.sign_statement)
        signed = signer.sign(statement_of(document, encoded, files, document["issued_at"]))
        (bundle / SIGNATURE).write_bytes(signed)
        statement = json.loads((bundle / PREPAID).read_bytes())["statement"]
        assert statement["schema"] == SCHEMA
        (bundle / PREPAID).write_bytes(signer.sign(statement | {"sha256": sha256(encoded).hexdigest()}))

    def verify(self, bundle: Path) -> Verified:
        return verify_bundle(bundle, self.authority.certificate_pem)

    def refusal(self, bundle: Path) -> str:
        with pytest.raises(InvalidInput) as caught:
            self.verify(bundle)
        return str(caught.value)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    made = Everything(tmp_path_factory.mktemp("everything"), MORE)
    made.bundle(2)
    made.bundle(3)
    return made


def test_all_that_an_invoice_charges_and_draws_is_made_again(desk: Everything) -> None:
    for number in (2, 3):
        verified = desk.verify(desk.folder / f"bundle-{number}")
        assert not [text for text in verified.unproved if "pushes" not in text and "checkpoint" not in text]
        assert any("bought-1 of 160.00 (wire-bought-1)" in text for text in verified.yours)
    document = json.loads((desk.folder / "bundle-3" / INVOICE).read_bytes())
    [correction] = document["corrections"]
    assert len(correction["meters"]) == 4
    assert correction["gaps"]
    assert {one["grant"] for one in document["payment"]["prepaid"]} >= {"bought-2"}
    assert any(text.startswith("payment: 1 draws on 2 prepaid credits drawn again") for text in verified.proved)
    assert any("corrections: " in text and OCTOBER in text for text in verified.proved)
    kinds = {line["kind"] for line in document["lines"]}
    assert {"discount:friends", "correction:overage", "correction:charge:searches", "overage"} <= kinds


def line_of(document: dict[str, Any], kind: str) -> tuple[int, dict[str, Any]]:
    return next((at, line) for at, line in enumerate(document["lines"], 1) if line["kind"] == kind)


def another_cent(kind: str) -> Change:
    """In the line, its parts, and the totals: sums hold."""

    def change(document: dict[str, Any]) -> None:
        _, line = line_of(document, kind)
        line["amount"] = str(Decimal(line["amount"]) + Decimal("0.01"))
        made = line["derivation"]
        made["rounding"]["exact"] = "0"
        made["unrounded"]["exact"] = line["amount"]
        if made["rate"]:
            made["rate"] = None
        net = Decimal(document["totals"]["net"]) + Decimal("0.01")
        document["totals"] |= {"net": str(net), "gross": str(net + Decimal(document["totals"]["tax"]))}

    return change


def line_tax(document: dict[str, Any]) -> None:
    document["lines"][1]["tax"]["rate"] = "20"


def tax_rate(document: dict[str, Any]) -> None:
    document["taxes"][0]["rate"] = "20"


def tax_amount(document: dict[str, Any]) -> None:
    tax = Decimal(document["totals"]["tax"]) + Decimal("0.01")
    document["totals"] |= {"tax": str(tax), "gross": str(tax + Decimal(document["totals"]["net"]))}


def drawn(document: dict[str, Any]) -> None:
    payment = document["payment"]
    payment["prepaid"][0]["amount"] = str(Decimal(payment["prepaid"][0]["amount"]) - Decimal("0.01"))
    payment["due"] = str(Decimal(payment["due"]) + Decimal("0.01"))


def due(document: dict[str, Any]) -> None:
    document["payment"]["due"] = str(Decimal(document["payment"]["due"]) + Decimal("0.01"))


def estimated_now(document: dict[str, Any]) -> None:
    gap = document["corrections"][0]["gaps"][0]
    gap["since_ms"] = str(int(gap["since_ms"]) - 30 * HOUR_MS)


def estimated_longer(document: dict[str, Any]) -> None:
    gap = document["corrections"][0]["gaps"][0]
    gap["end_ms"] = str(int(gap["end_ms"]) - 1)


def usage_of_a_day(document: dict[str, Any]) -> None:
    document["usage"]["days"][0]["milli_vcpu_ms"] = "1"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (line_tax, "lines[2].tax.rate: found '20'"),
        (tax_rate, "taxes[1].rate: found '20'"),
        (tax_amount, "totals."),
        (drawn, "payment.prepaid[1]: found"),
        (due, "payment.due: found"),
        (another_cent("discount:friends"), "lines["),
        (another_cent("correction:overage"), "lines["),
        (another_cent("correction:charge:searches"), "lines["),
        (another_cent("correction:discount:friends"), "lines["),
        (estimated_now, "corrections[1].net"),
        (estimated_longer, "usage.gaps of orders query"),
        (usage_of_a_day, "usage.days[1]"),
    ],
)
def test_what_a_vendor_changed_and_signed_is_found_and_its_place_named(
    desk: Everything, tmp_path: Path, change: Change, where: str
) -> None:
    bundle = Path(shutil.copytree(desk.folder / "bundle-3", tmp_path / "bundle"))
    desk.resign(bundle, change)
    said = desk.refusal(bundle)
    assert where in said, said


def test_a_byte_of_what_it_rests_on_is_found_and_its_file_named(desk: Everything, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(desk.folder / "bundle-3", tmp_path / "bundle"))
    now = bundle / CORRECTED / OCTOBER / NOW
    meters = [*sorted((bundle / METERS).iterdir())[:2], min((now / METERS).iterdir())]
    for path in [*meters, bundle / PREPAID, next((bundle / DRAWN).glob("*/*"))]:
        content = path.read_bytes()
        for place in range(3, len(content), len(content) // 3):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert path.parent.name in desk.refusal(bundle)
        path.write_bytes(content)
    meters[0].write_bytes(meters[0].read_bytes().split(b"\n", 1)[1])
    assert "Merkle root" in desk.refusal(bundle)
    shutil.copy(desk.folder / "bundle-3" / METERS / meters[0].name, meters[0])
    [earlier] = (bundle / EARLIER).iterdir()
    invoice = (earlier / INVOICE).read_bytes()
    (earlier / INVOICE).write_bytes(invoice.replace(b"acme", b"acne", 1))
    assert "statement.sha256" in desk.refusal(bundle)
    shutil.rmtree(earlier)
    assert "lines[" in desk.refusal(bundle), "the spend commitment was used for nothing then"


class TrueUp(Everything):
    """A true-up on the second invoice of two, which a threshold invoice came before."""

    def seal_licence(self, of: str) -> None:
        if of == "2026-10":
            self.say("credit", "add", "bought", "acme", "1.00", "--currency", "USD", "--reference", "wire")
        self.seal_october(missing=3)
        self.seal_term(above=True, of="2026-11")
        if of == "2026-11":
            assert "EXAMPLE" in self.say("invoice", "threshold", "acme", of)


def test_true_ups_thresholds_and_credits_of_a_person_are_made_again(tmp_path: Path) -> None:
    """The highest use of the two months is bought; late usage then makes it, and the invoice, cheaper."""
    more = 'capacity_true_up: {every: quarter}\ngap_policy: hold-last\nthreshold: "1.00"\n'
    desk = TrueUp(tmp_path, more, USERS)
    desk.say("invoice", "credit", "EXAMPLE-EU-2026-000004", "--line", "3=0.50", "--reason", "outage")
    desk.seal_term(above=False, of="2026-11")
    desk.seal_october(missing=3, level=17_000)
    desk.say("invoice", "finalize", "acme", "2026-11")
    kinds = set()
    for name in ("000003", "000004", "CN000001", "CN000002"):
        bundle = tmp_path / name
        desk.say("invoice", "bundle", f"EXAMPLE-EU-2026-{name}", "--out", str(bundle))
        verified = desk.verify(bundle)
        assert any(text.startswith("document: ") for text in verified.proved)
        assert not [text for text in verified.unproved if "pushes" not in text and "checkpoint" not in text]
        kinds |= {line["kind"] for line in json.loads((bundle / INVOICE).read_bytes())["lines"]}
    expected = {"threshold", "capacity-true-up", "correction:capacity-true-up", "credit:charge:users"}
    assert kinds >= {*expected, "threshold-credit:EXAMPLE-EU-2026-000003"}
    for path in (tmp_path / "000004" / THRESHOLDS, tmp_path / "CN000002" / CAPACITY / "1" / STEPS):
        moved = path.rename(tmp_path / "away")
        said = desk.refusal(tmp_path / path.relative_to(tmp_path).parts[0])
        assert STEPS in said or "lines" in said
        moved.rename(path)
