"""`byoc marketplace`, and a month whose searches AWS Marketplace bills: invoice, PDF, bundle, FOCUS."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pypdf
import pytest
from focus_data_toolkit.validate.bundle import validate_dataset_bundle
from typer.testing import CliRunner, Result

from billing.book import ContractBook
from billing.cli import app
from billing.pdf import invoice_pdf
from billing.proof.verify import Verified, verify_bundle
from console.cli import build_app
from kernel.clock import to_ms
from kernel.errors import ByocError, InvalidInput, NotFound
from kernel.identity import CertificateAuthority
from kernel.window import DAY_MS, HOUR_MS, Window, hours_in
from metering.meters.catalogue import parse_catalogue
from metering.meters.store import MetersOfHour, MeterStore
from tests.billing.deals import ACME, contract_text
from tests.billing.marketplace_emulator import Emulator, serving
from tests.billing.marketplace_world import ACCOUNT, go_to
from tests.billing.metered_world import CATALOGUE, metered_hour
from tests.billing.proof_world import flip
from tests.billing.test_cli import Desk
from tests.billing.test_export_commands import NAMES, lint, read

TERM = ("2026-10-30", "2026-11-02")
PERIOD = Window(to_ms(datetime(2026, 10, 30, tzinfo=UTC)), to_ms(datetime(2026, 11, 1, tzinfo=UTC)))
SOLD = """\
charges:
  - charge: searches
    description: Searches
    meter: searches
    marketplace: {product: prod-1, account: "123456789012", dimension: searches}
    steps:
      - {start: 2026-10-30, model: {kind: per-unit, unit: "0.10"}}
      - {start: 2026-10-31, model: {kind: per-unit, unit: "0.20"}}
tax: {category: S, rate: "19"}
"""
NUMBER = "EXAMPLE-EU-2026-000001"


class Market(Desk):
    """A vendor, and an AWS that answers; its clock is at 09:30 of the first day of three."""

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__(folder)
        go_to(self.deployment.clock, PERIOD.start_ms + 9 * HOUR_MS + HOUR_MS // 2)  # type: ignore[arg-type]
        self.authority = CertificateAuthority.create(
            self.deployment.authority_folder, "vendor.example.com", self.deployment.clock
        )
        self.emulator = Emulator(self.deployment.clock)
        self.sell("acme", SOLD + more)

    def sell(self, organization: str, charges: str) -> None:
        """A contract with charges for meters of the catalogue of the tests, which the command doesn't know."""
        text = contract_text(organization, term=TERM, vcpu=0, on_demand=False, more=charges)
        deployment = self.deployment
        book = ContractBook(deployment.database(), deployment.clock, deployment.audit())
        book.add_contract(text, "contract.yaml", "test")

    def tell(self) -> str:
        """The hours so far are sealed, and the last of them sent."""
        result = self.try_to_tell()
        assert result.exit_code == 0, result.output
        return result.output

    def try_to_tell(self) -> Result:
        """The same, whatever comes of it."""
        self.seal_searches(PERIOD.start_ms + 9 * HOUR_MS)
        return self.invoke("marketplace", "send")

    def seal_searches(self, until_ms: int) -> None:
        store, catalogue = MeterStore(self.deployment.database()), parse_catalogue(CATALOGUE, "test")
        store.add_catalogue(catalogue, 0)
        period = Window(PERIOD.start_ms, until_ms)
        hours = [
            MetersOfHour(
                *(hour, {"searches": metered_hour(hour, 0)["searches"]}, ("file sha",), "digest", 1, "watermark")
            )
            for hour in hours_in(period)
        ]
        store.seal(ACME, catalogue, hours, self.deployment.clock.now_ms(), store.checked(ACME, period))

    def close(self) -> None:
        """The second day is sealed, its last five hours are told, and October is invoiced."""
        go_to(self.deployment.clock, PERIOD.end_ms + HOUR_MS // 2)  # type: ignore[arg-type]
        self.seal_term(above=False)
        self.seal_searches(PERIOD.end_ms)
        self.say("marketplace", "send")
        go_to(self.deployment.clock, PERIOD.end_ms + 2 * DAY_MS)  # type: ignore[arg-type]
        self.say("invoice", "finalize", "acme", "2026-10")

    def close_november(self) -> None:
        """Its one day, of which AWS was told nothing."""
        self.seal_term(above=False, of="2026-11")
        self.seal_searches(PERIOD.end_ms + DAY_MS)
        go_to(self.deployment.clock, PERIOD.end_ms + 4 * DAY_MS)  # type: ignore[arg-type]
        self.say("invoice", "finalize", "acme", "2026-11")

    def bundle(self, number: str = NUMBER) -> Path:
        out = self.folder / f"bundle-{number}"
        self.say("invoice", "bundle", number, "--out", str(out))
        return out

    def verify(self, folder: Path) -> Verified:
        return verify_bundle(folder, self.authority.certificate_pem)


def used(first_ms: int, end_ms: int) -> int:
    """Two clusters, by the hour."""
    return sum(2 * (at // HOUR_MS % 7) for at in range(first_ms, end_ms, HOUR_MS))


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    market = Market(tmp_path)
    with serving(market.emulator) as address:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield market


@pytest.fixture
def told(market: Market) -> Market:
    """Of the nine hours of the first day the last five were sent; the one before is too old by then."""
    assert market.tell() == f"acme  prod-1/{ACCOUNT}/searches  5 accepted; left to the invoice: 1 hours\n"
    return market


def test_hours_go_to_the_marketplace_once_by_command(told: Market) -> None:
    now = told.deployment.clock.now_ms() - HOUR_MS // 2
    assert sum(told.emulator.metered.values()) == used(now - 5 * HOUR_MS, now)
    assert told.say("marketplace", "send", "acme").endswith("nothing new; left to the invoice: 1 hours\n")
    listed = told.say("marketplace", "list", "acme", "--month", "2026-10").splitlines()
    assert len(listed) == 5
    assert listed[-1] == f"prod-1/{ACCOUNT}/searches  2026-10-30T08:00:00.000Z  told 8  accepted  taken 8"
    assert told.say("marketplace", "list", "acme", "--unknown") == ""


def test_one_organization_that_is_refused_holds_up_no_other(told: Market) -> None:
    told.sell("zeta", SOLD)
    told.sell("bad", SOLD.replace("meter: searches", "meter: none-such"))
    result = told.invoke("marketplace", "send")
    assert result.exit_code == 1
    assert "acme  prod-1" in result.output
    assert "bad: " in result.output
    assert "zeta: prod-1/123456789012/searches is what organization acme is billed by" in result.output


def test_a_meter_whose_hours_do_not_add_up_is_refused(market: Market) -> None:
    market.sell("zeta", SOLD.replace("meter: searches", "meter: users"))
    store, catalogue = MeterStore(market.deployment.database()), parse_catalogue(CATALOGUE, "test")
    now = market.deployment.clock.now_ms()
    store.add_catalogue(catalogue, 0)
    hours = [
        MetersOfHour(hour, {"users": metered_hour(hour, 0)["users"]}, ("file sha",), "digest", 1, "watermark")
        for hour in hours_in(Window(PERIOD.start_ms, now))
    ]
    from kernel.ids import OrganizationId

    store.seal(OrganizationId("zeta"), catalogue, hours, now, {})
    result = market.invoke("marketplace", "send", "zeta")
    assert (result.exit_code, "one whose hours add up" in result.output) == (1, True)


def test_resolving_by_command(told: Market) -> None:
    words = ("marketplace", "resolve", "acme", "searches")
    said = told.say(*words, "2026-10-30T08:00Z", "--taken", "1", "--reason", "refund 7")
    assert said == f"prod-1/{ACCOUNT}/searches  2026-10-30T08:00:00.000Z  told 8  resolved  taken 1\n"
    [audited] = [one for one in told.deployment.audit().events() if one.action == "marketplace.resolve"]
    assert json.loads(audited.details) == {"hour": "2026-10-30T08:00:00.000Z", "taken": "1", "reason": "refund 7"}
    asked = ("--taken", "1", "--reason", "x")
    refusals: list[tuple[tuple[str, ...], type[ByocError], str]] = [
        ((*words, "2026-10-30T08:30Z", *asked), InvalidInput, "the start of an hour"),
        ((*words, "2026-10-30T08:00", *asked), InvalidInput, "with its zone"),
        ((*words, "never", *asked), InvalidInput, "the start of an hour"),
        ((*words, "2026-10-30T02:00Z", *asked), NotFound, "was told nothing"),
        ((*words, "2026-10-30T05:00Z", "--taken", "-1", "--reason", "x"), InvalidInput, "0 to"),
        ((*words[:3], "other", "2026-10-30T08:00Z", *asked), NotFound, "no charge other"),
        (("marketplace", "list", "nobody"), NotFound, "no contract of nobody"),
    ]
    for command, refusal, match in refusals:
        with pytest.raises(refusal, match=match):
            told.invoke(*command)


def test_hours_that_wait_for_a_person_are_reminded_of_until_they_are_resolved(market: Market) -> None:
    """AWS has another quantity of an hour, from elsewhere."""
    market.emulator.metered[ACCOUNT, "searches", (PERIOD.start_ms + 8 * HOUR_MS) // 1000] = 999
    result = market.try_to_tell()
    assert result.exit_code == 1
    assert "acme: of 1 hours nobody knows what AWS Marketplace took" in result.output
    resolve = ("marketplace", "resolve", "acme", "searches", "2026-10-30T08:00Z")
    market.say(*resolve, "--taken", "999", "--reason", "its report")
    assert market.invoke("marketplace", "send").exit_code == 0


def test_it_is_a_command_of_byoc() -> None:
    result = CliRunner().invoke(build_app(["marketplace"]), ["marketplace", "--help"])
    assert all(name in result.output for name in ("send", "list", "resolve"))
    assert CliRunner().invoke(app, ["marketplace", "--help"]).exit_code == 0


def test_the_invoice_states_both_and_follows_from_its_bundle(told: Market) -> None:
    """Two prices, so two lines each; the second day's last five hours were told, too."""
    told.close()
    document = json.loads(told.say("invoice", "show", NUMBER))
    lines = [(one["kind"], one["derivation"]["quantity"]["exact"], one["amount"]) for one in document["lines"][2:]]
    now = PERIOD.start_ms + 9 * HOUR_MS
    second = PERIOD.end_ms - DAY_MS
    early, late = used(now - 5 * HOUR_MS, now), used(PERIOD.end_ms - 5 * HOUR_MS, PERIOD.end_ms)
    rest = used(PERIOD.start_ms, second) - early, used(second, PERIOD.end_ms) - late
    assert lines == [
        ("marketplace:searches", str(early), "0.00"),
        ("charge:searches", str(rest[0]), f"{Decimal(rest[0]) / 10:.2f}"),
        ("marketplace:searches", str(late), "0.00"),
        ("charge:searches", str(rest[1]), f"{Decimal(rest[1]) / 5:.2f}"),
    ]
    folder = told.bundle()
    verified = told.verify(folder)
    assert "amounts: 6 of 6 lines recomputed from rows and contract" in verified.proved
    assert (folder / "marketplace" / "2.tsv").read_bytes().count(b"\n") == 15

    path = folder / "marketplace" / "1.tsv"
    flip(path, path.read_bytes().index(b'"quantity":"') + len(b'"quantity":"'))
    with pytest.raises(InvalidInput, match=r"1\.tsv: (Merkle root|line 1)"):
        told.verify(folder)
    path.unlink()
    with pytest.raises(InvalidInput, match=r"1\.tsv: file"):
        told.verify(folder)


def test_what_becomes_known_later_follows_from_the_bundle_of_its_invoice(told: Market) -> None:
    """AWS gives back 7 of 8: they are left to bill, by the invoice of November, at the price of October."""
    told.close()
    told.say(
        "marketplace", "resolve", "acme", "searches", "2026-10-30T08:00Z", "--taken", "1", "--reason", "refund"
    )
    told.close_november()
    document = json.loads(told.say("invoice", "show", "EXAMPLE-EU-2026-000002"))
    [line] = [one for one in document["lines"] if one["kind"].startswith("correction:")]
    assert (line["kind"], line["amount"], line["corrects"]) == ("correction:charge:searches", "0.70", NUMBER)
    verified = told.verify(told.bundle("EXAMPLE-EU-2026-000002"))
    assert f"corrections: 1 lines from the rows of {NUMBER} as billed, and as rated again" in verified.proved
    assert "amounts: 4 of 4 lines recomputed from rows and contract" in verified.proved
    again = told.verify(told.bundle())
    assert "amounts: 6 of 6 lines recomputed from rows and contract" in again.proved, "as it was billed then"


def test_what_aws_had_from_elsewhere_is_credited_and_proved(market: Market) -> None:
    market.emulator.metered[ACCOUNT, "searches", (PERIOD.start_ms + 8 * HOUR_MS) // 1000] = 20
    assert market.try_to_tell().exit_code == 1
    assert "other-quantity" in market.say("marketplace", "list", "acme", "--unknown")
    words = ("marketplace", "resolve", "acme", "searches", "2026-10-30T08:00Z", "--taken")
    market.say(*words, "2", "--reason", "AWS's report of October, misread")
    market.close()
    market.say(*words, "20", "--reason", "AWS's report of October")
    said = market.say("invoice", "finalize", "acme", "2026-10")
    assert "EXAMPLE-EU-2026-CN000001" in said
    folder = market.bundle("EXAMPLE-EU-2026-CN000001")
    verified = market.verify(folder)
    assert f"corrections: 1 lines from the rows of {NUMBER} as billed, and as rated again" in verified.proved
    path = folder / "marketplace" / "1.tsv"
    flip(path, path.read_bytes().rindex(b'"taken":"20"') + len(b'"taken":"'))
    with pytest.raises(InvalidInput, match=r"1\.tsv: Merkle root"):
        market.verify(folder)


def test_the_printed_invoice_in_two_languages(told: Market) -> None:
    told.close()
    document = told.say("invoice", "show", NUMBER)
    english = _text(invoice_pdf().render(document.encode()))
    for expected in (
        "Billed by AWS Marketplace: Searches",
        "Searches (what AWS Marketplace did not take)",
        "Told to AWS Marketplace",
        f"AWS account {ACCOUNT}",
    ):
        assert expected in english
    chinese = _text(invoice_pdf().render(json.dumps({**json.loads(document), "language": "zh"}).encode()))
    for expected in ("由 AWS Marketplace 收取:Searches", "Searches(AWS Marketplace 未收取的部分)", "其确认收取"):
        assert expected in chinese
    assert "did not take" not in chinese


def _text(pdf: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages).split())


def test_focus_reads_it_without_an_error(told: Market) -> None:
    told.close()
    folder = told.folder / "focus"
    told.say("export", "focus", "acme", "--from", "2026-10", "--to", "2026-10", "--out", str(folder))
    rows = {dataset: read(folder, name) for name, dataset in NAMES.items()}
    report = validate_dataset_bundle(rows, invoice_detail_authoritative=True, rounding_tolerance=Decimal(0))
    assert (report.ok, report.diagnostics) == (True, []), report.format()
    assert [lint(folder, name) for name in ("cost-and-usage", "invoice-detail", "billing-period")] == [0] * 3
    with (folder / "cost-and-usage.csv").open(encoding="utf-8", newline="") as file:
        found = {row["x_LineKind"]: row for row in csv.DictReader(file)}
    assert found["marketplace:searches"]["BilledCost"] == "0.00"
    assert found["marketplace:searches"]["ConsumedQuantity"] == ""
