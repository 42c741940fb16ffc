"""Charges for meters, and what a spend commitment counts, are made again from the bundle's rows and invoices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from billing.proof.rows import EARLIER, INVOICE, METERS
from billing.proof.verify import verify_bundle
from kernel.errors import InvalidInput
from kernel.identity import CertificateAuthority
from kernel.ids import ClusterId, ProjectId
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.meters.catalogue import parse_catalogue
from metering.meters.hours import MeterHour, Piece, RowHour, RowKey
from metering.meters.store import MetersOfHour, MeterStore
from tests.billing.deals import ACME, contract_text
from tests.billing.test_cli import FIRST, Desk

THREE_DAYS = ("2026-10-30", "2026-11-02")
CATALOGUE = """
catalogue: test
version: 1
meters:
  - {meter: searches, description: x, kind: counter-increase, unit: searches, series: [{metric: searches_total}]}
  - {meter: rows-p50, description: x, kind: percentile, percentile: 50, denominator: window, unit: rows,
     series: [{metric: rows}]}
  - {meter: users, description: x, kind: unique-count, count: user, unit: users, series: [{metric: seen}]}
"""
CHARGES = """
charges:
  - charge: searches
    description: Searches
    meter: searches
    group_by: cluster
    steps:
      - start: 2026-10-30
        model: {kind: graduated, tiers: [{up_to: "100", unit: "0.10"}, {up_to: null, unit: "0.05"}]}
  - charge: rows
    description: Rows
    meter: rows-p50
    steps:
      - {start: 2026-10-30, model: {kind: per-unit, unit: "0.01"}}
      - {start: 2026-10-31, model: {kind: per-unit, unit: "0.02"}}
  - charge: users
    description: Users
    meter: users
    steps:
      - {start: 2026-10-30, model: {kind: per-unit, unit: "2"}}
spend_commitment: {amount: "40.00", every: quarter}
discounts:
  - {discount: friends, description: Friends, percent: "10"}
"""


def metered_hour(hour: Window, extra: int) -> dict[str, MeterHour]:
    """Two clusters search, rows grow by the hour of the day, and a user is seen in the first quarter."""
    at, none = hour.start_ms // HOUR_MS, Piece(observed_ms=HOUR_MS // 4)

    def key(cluster: str) -> RowKey:
        return RowKey(ProjectId("main"), ClusterId(cluster), ())

    searches = tuple(
        RowHour(key(cluster), (Piece(at % 7 + extra, observed_ms=HOUR_MS // 4), none, none, none))
        for cluster in ("c1", "c2")
    )
    rows = RowHour(key("c1"), (none,) * 4, points=((hour.start_ms, at % 24 * 10), (hour.start_ms + 60_000, at % 5)))
    users = RowHour(key("c1"), (none,) * 4, values={f"user-{at % 3}": 1})
    return {
        "searches": MeterHour(searches, {}),
        "rows-p50": MeterHour((rows,), {}),
        "users": MeterHour((users,), {}),
    }


class Metered(Desk):
    """October and the first of November are invoiced, with charges for three meters."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = CertificateAuthority.create(
            self.deployment.authority_folder, "vendor.example.com", self.deployment.clock
        )
        text = contract_text(term=THREE_DAYS, more=CHARGES)
        self.say("contract", "add", self.file("contract.yaml", text))
        self.deployment.clock.step_wall(2 * 86_400)  # type: ignore[attr-defined]
        self.seal_meters(extra=1)
        for each in ("2026-10", "2026-11"):
            self.seal_term(above=True, of=each)
            self.deployment.clock.step_wall(1)  # type: ignore[attr-defined]
            self.say("invoice", "finalize", "acme", each)

    def seal_meters(self, extra: int) -> None:
        store, catalogue = MeterStore(self.deployment.database()), parse_catalogue(CATALOGUE, "test")
        store.add_catalogue(catalogue, 0)
        period = Window(FIRST.start_ms, month("2026-11").start_ms + 24 * HOUR_MS)
        hours = [
            MetersOfHour(hour, metered_hour(hour, extra), ("file sha",), f"digest {extra}", 1, "watermark")
            for hour in hours_in(period)
        ]
        store.seal(ACME, catalogue, hours, self.deployment.clock.now_ms(), store.checked(ACME, period))

    def bundle(self, number: int) -> Path:
        out = self.folder / f"bundle-{number}"
        self.say("invoice", "bundle", f"EXAMPLE-EU-2026-{number:06d}", "--out", str(out))
        return out


def test_charges_discounts_and_spend_follow_from_the_bundle(tmp_path: Path) -> None:
    desk = Metered(tmp_path)
    before = desk.bundle(2)
    desk.deployment.clock.step_wall(60)  # type: ignore[attr-defined]
    desk.seal_meters(extra=2)
    october, november = tmp_path / "bundle-2", desk.bundle(3)
    late = desk.folder / "late"
    desk.say("invoice", "bundle", "EXAMPLE-EU-2026-000002", "--out", str(late))
    for path in (before / METERS).iterdir():  # the revisions that were billed
        assert (late / METERS / path.name).read_bytes() == path.read_bytes()
    pem = desk.authority.certificate_pem
    lines = json.loads((november / INVOICE).read_bytes())["lines"]
    assert any(fact["name"] == "spent_before" for line in lines for fact in line["derivation"]["facts"])
    for bundle in (october, late, november):
        verified = verify_bundle(bundle, pem)
        count = len(json.loads((bundle / INVOICE).read_bytes())["lines"])
        assert f"amounts: {count} of {count} lines recomputed from rows and contract" in verified.proved
    damage(november, pem)


def damage(bundle: Path, pem: bytes) -> None:
    """A byte of each meter's rows, a row, a meter, and the invoice that the spend commitment counts."""

    def refusal() -> str:
        with pytest.raises(InvalidInput) as caught:
            verify_bundle(bundle, pem)
        return str(caught.value)

    for path in sorted((bundle / METERS).iterdir()):
        content = path.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 20)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert path.name in refusal()
        path.write_bytes(content[content.index(b"\n") + 1 :])
        assert "Merkle root" in refusal()
        path.unlink()
        assert path.name in refusal()
        path.write_bytes(content)
    [earlier] = (bundle / EARLIER).iterdir()
    invoice = (earlier / INVOICE).read_bytes()
    (earlier / INVOICE).write_bytes(invoice.replace(b"acme", b"acne", 1))
    assert "statement.sha256" in refusal()
    (earlier / INVOICE).write_bytes(invoice)
    verify_bundle(bundle, pem)
    earlier.rename(bundle / "elsewhere")
    assert "lines[" in refusal()
