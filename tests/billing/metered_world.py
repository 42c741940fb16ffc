"""A desk whose contract charges for meters, with a discount and a spend commitment: two months of it, invoiced."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from billing.cli import app
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

    def __init__(self, folder: Path, more: str = "", charges: str = CHARGES) -> None:
        super().__init__(folder)
        self.authority = CertificateAuthority.create(
            self.deployment.authority_folder, "vendor.example.com", self.deployment.clock
        )
        text = contract_text(term=THREE_DAYS, more=charges + more)
        self.say("contract", "add", self.file("contract.yaml", text))
        self.deployment.clock.step_wall(2 * 86_400)  # type: ignore[attr-defined]
        self.seal_meters(extra=1)
        for each in ("2026-10", "2026-11"):
            self.seal_licence(each)
            self.deployment.clock.step_wall(1)  # type: ignore[attr-defined]
            self.say("invoice", "finalize", "acme", each)
            self.deployment.clock.step_wall(1)  # type: ignore[attr-defined]

    def invoke(self, *words: str) -> Result:
        named = {"BYOC_USAGE__CATALOGUE": self.file("catalogue.yaml", CATALOGUE)}
        return CliRunner().invoke(app, words, obj=self.deployment, catch_exceptions=False, env=named)

    def seal_licence(self, of: str) -> None:
        self.seal_term(above=True, of=of)

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
