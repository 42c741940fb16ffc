"""The commands, in the order in which a finance team uses them, on an embedded vendor side."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from billing.cli import app
from billing.errors import NotApproved
from console.migrate import migrate
from kernel.clock import VirtualClock, to_ms
from kernel.deployment import Deployment
from kernel.errors import Conflict, InvalidInput, NotFound
from kernel.ids import ClusterId, CollectorId, ProjectId
from kernel.window import Window, day_of, hours_in, month
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.sealing import HourToSeal
from metering.usage.store import UsageStore
from tests.billing.deals import ACME, HOUR_MS, NOVEMBER_3, contract_text, licence_text
from tests.billing.test_contract_input import FROM_BOOK, PRICES

TERM = ("2026-10-30", "2027-10-30")  # so that the first invoice is of two days
FIRST = day_of(to_ms(datetime(2026, 10, 30, tzinfo=UTC)))


class Desk:
    """One deployment and its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deployment = Deployment.embedded(folder / "vendor", VirtualClock(NOVEMBER_3))
        migrate(self.deployment.database())

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def invoke(self, *words: str) -> Result:
        return CliRunner().invoke(app, words, obj=self.deployment, catch_exceptions=False)

    def say(self, *words: str) -> str:
        result = self.invoke(*words)
        assert result.exit_code == 0, result.output
        return result.output

    def seal_term(self, *, above: bool, upto: int | None = None, of: str = "2026-10") -> None:
        """Every hour of a month from the first of the term at 16 vCPU; with `above`, the second one at 26."""
        component = Component(ProjectId("main"), ClusterId("c1"), "query")
        hours = list(hours_in(Window(max(FIRST.start_ms, month(of).start_ms), month(of).end_ms)))[:upto]
        levels = [26_000 if above and index == 1 else 16_000 for index in range(len(hours))]
        sealed = [
            HourToSeal(
                organization=ACME,
                hour=hour,
                components=(
                    ComponentHour(
                        component=component,
                        collector=CollectorId("col-1"),
                        milli_vcpu_ms=level * HOUR_MS,
                        observed_ms=HOUR_MS,
                        missing_ms=0,
                        peak_milli_vcpu=level,
                        open_at_end=True,
                    ),
                ),
                step=((hour.start_ms, level), (hour.end_ms, 0)),
                sources=("file sha",),
                files_digest=f"digest-{level}",
                snapshot_id=1,
                reason="watermark",
            )
            for hour, level in zip(hours, levels, strict=True)
        ]
        UsageStore(self.deployment.database()).seal(sealed, self.deployment.clock.now_ms())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_licence_that_outlasts_every_contract_is_said_to(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=TERM)))
    longer = licence_text(valid=("2026-10-01", "2028-01-01"))
    said = desk.say("licence", "add", desk.file("licence.yaml", longer))
    assert "no contract of acme covers 2026-10-01T00:00:00.000Z to 2026-10-30T00:00:00.000Z" in said
    assert "no contract of acme covers 2027-10-30T00:00:00.000Z to 2028-01-01T00:00:00.000Z" in said


def test_from_price_book_to_pdf(desk: Desk) -> None:
    contract = contract_text(term=TERM).replace(*FROM_BOOK)
    assert desk.say("price", "add", desk.file("prices.yaml", PRICES)) == "price book standard version 1: 3 prices\n"
    assert "vcpu-year  900.00 USD  from 2025-01-01" in desk.say("price", "show", "standard")
    assert "acme-2026 version 1" in desk.say("contract", "add", desk.file("contract.yaml", contract))
    assert "16 vCPU, on-demand above it  900.00 USD" in desk.say("contract", "list")
    assert contract.rstrip() in desk.say("contract", "show", "acme-2026")
    assert "acme-licence" in desk.say("licence", "add", desk.file("licence.yaml", licence_text(valid=TERM)))
    assert desk.say("licence", "show", "acme").endswith("capacity now: 16 vCPU\n")
    desk.seal_term(above=True)

    draft = json.loads(desk.say("invoice", "draft", "acme", "2026-10", "--pdf", str(desk.folder / "draft.pdf")))
    assert draft["totals"]["gross"] == "1.03"
    assert (desk.folder / "draft.pdf").read_bytes().startswith(b"%PDF")
    assert desk.say("invoice", "commitments", "acme-2026").endswith("14400.00 USD\n")
    finalized = desk.say("invoice", "finalize", "acme", "2026-10")
    numbers = ["EXAMPLE-EU-2026-000001", "EXAMPLE-EU-2026-000002"]
    assert finalized.splitlines()[1] == f"{numbers[1]}  usage 2026-10  1.03 USD"
    assert desk.say("invoice", "finalize", "acme", "2026-10") == finalized
    listed = desk.say("invoice", "list", "--organization", "acme").splitlines()
    assert [line.split()[0] for line in listed] == ["number", *numbers, "-"]
    assert json.loads(desk.say("invoice", "show", "EXAMPLE-EU-2026-000002"))["status"] == "final"
    desk.say("invoice", "pdf", "EXAMPLE-EU-2026-000002", "--out", str(desk.folder / "one.pdf"))
    desk.say("invoice", "pdf", "EXAMPLE-EU-2026-000002", "--out", str(desk.folder / "two.pdf"))
    assert (desk.folder / "one.pdf").read_bytes() == (desk.folder / "two.pdf").read_bytes()
    assert [event.action for event in desk.deployment.audit().events()] == [
        "price.add",
        "contract.add",
        "licence.add",
        "invoice.finalize",
        "invoice.finalize",
    ]


def test_hours_that_are_open_and_usage_that_comes_late(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=TERM)))
    desk.seal_term(above=False, upto=40)
    with pytest.raises(Conflict, match="not sealed"):
        desk.invoke("invoice", "finalize", "acme", "2026-10")
    assert json.loads(desk.say("invoice", "list", "--json"))["documents"] == []

    desk.seal_term(above=False)
    assert "usage 2026-10  0.00 USD" in desk.say("invoice", "finalize", "acme", "2026-10")
    desk.seal_term(above=True)
    said = desk.say("invoice", "finalize", "acme", "2026-10")
    assert "EXAMPLE-EU-2026-000002: usage that arrived later is billed by the next invoice" in said


def test_a_document_is_sent_paid_credited_and_voided_by_command(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=TERM, more="approval: true\n")))
    desk.seal_term(above=True)
    said = desk.say("invoice", "preview", "acme", "2026-10")
    assert "1.03 USD  overage" in said
    assert "phase due, usage sealed" in said
    with pytest.raises(NotApproved):
        desk.invoke("invoice", "finalize", "acme", "2026-10")
    assert "approved " in desk.say("invoice", "approve", "acme", "2026-10")
    desk.say("invoice", "finalize", "acme", "2026-10")
    number = "EXAMPLE-EU-2026-000002"
    assert "sent" in desk.say("invoice", "send", number, "--to", "billing@example.com")
    assert "open 1.00 USD" in desk.say("invoice", "pay", number, "0.03", "--reference", "wire-1")
    assert "CN000001  -0.50 USD" in desk.say("invoice", "credit", number, "--line", "2=0.50", "--reason", "outage")
    assert "send  billing@example.com" in desk.say("invoice", "standing", number)
    assert "current     14400.50 USD" in desk.say("receivables", "ageing", "acme", "--on", "2026-11-10")
    void = desk.say("invoice", "void", "EXAMPLE-EU-2026-000001", "--reason", "wrong")
    assert "EXAMPLE-EU-2026-000001  void  open 0.00 USD" in void
    for wrong in ("2", "0=1.00", "x=1", "2=1,00"):
        with pytest.raises(InvalidInput):
            desk.invoke("invoice", "credit", number, "--line", wrong, "--reason", "r")
    with pytest.raises(InvalidInput, match="each line once"):
        desk.invoke("invoice", "credit", number, "--line", "2=0.10", "--line", "2=0.20", "--reason", "r")


def test_documents_leave_by_command(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=TERM)))
    desk.seal_term(above=True)
    desk.say("invoice", "finalize", "acme", "2026-10")
    number, folder = "EXAMPLE-EU-2026-000002", str(desk.folder / "out")
    refused = desk.invoke("invoice", "deliver", "--to-folder", folder)
    assert refused.exit_code == 1
    assert "send_to" in refused.output
    with pytest.raises(InvalidInput, match="SMTP server"):
        desk.invoke("invoice", "deliver")
    words = ("invoice", "deliver", "--to-folder", folder, "--to", "ap@example.com")
    assert f"{number}  ap@example.com" in desk.say(*words)
    assert desk.say(*words) == ""
    assert (desk.folder / "out" / f"{number}.eml").is_file()
    for name in ("lines.csv", "lines.parquet"):
        desk.say("invoice", "lines", number, "--out", str(desk.folder / name))
    for name in ("statement.json", "statement.csv", "statement.parquet", "statement.pdf"):
        desk.say("receivables", "statement", "acme", "--out", str(desk.folder / name))
        assert (desk.folder / name).stat().st_size > 100
    for group, subject, command in (("invoice", number, "lines"), ("receivables", "acme", "statement")):
        with pytest.raises(InvalidInput, match="--out"):
            desk.invoke(group, command, subject, "--out", "x.doc")


def test_prepaid_credits_by_command(desk: Desk) -> None:
    words = ("credit", "add", "bought-1", "acme", "100.00", "--currency", "USD", "--reference", "wire-7")
    for _ in range(2):
        assert "bought-1  100.00 USD" in desk.say(*words, "--expires", "2027-01-01")
    assert desk.say("credit", "list", "acme") == "bought-1  100.00 USD\n"
    with pytest.raises(InvalidInput, match="at most 0 decimals in JPY"):
        desk.invoke("credit", "add", "y", "acme", "100.5", "--currency", "JPY", "--reference", "wire-8")


def test_prices_are_checked_and_a_month_is_priced_another_way(desk: Desk) -> None:
    book = """\
price_book: standard
version: 1
models:
  - {item: reads, currency: USD, start: 2026-01-01, model: {kind: per-unit, unit: "0.5"}}
"""
    said = desk.say("price", "check", desk.file("book.yaml", book))
    assert "valid" in said
    assert "  1000000  500000" in said
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=TERM)))
    desk.seal_term(above=True)
    dearer = desk.file("dearer.yaml", contract_text(term=TERM).replace("900.00", "1800.00"))
    words = ("price", "simulate", "acme", "2026-10", "--as", dearer)
    assert [line.split() for line in desk.say(*words).splitlines()] == [
        ["billed", "now", "simulated", "difference"],
        ["overage", "-", "1.03", "USD", "2.05", "USD", "1.02", "USD"],
        ["net", "-", "1.03", "USD", "2.05", "USD", "1.02", "USD"],
        ["tax", "-", "0.00", "USD", "0.00", "USD", "0.00", "USD"],
        ["gross", "-", "1.03", "USD", "2.05", "USD", "1.02", "USD"],
    ]
    assert "900.00" in desk.say("contract", "show", "acme-2026"), "nothing of it is stored"


def test_what_is_wrong_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match=r"wrong\.yaml:9: price_per_vcpu_year: found 900\.0"):
        desk.invoke("contract", "add", desk.file("wrong.yaml", contract_text().replace('"900.00"', "900.00")))
    with pytest.raises(InvalidInput, match=r"absent\.yaml: file"):
        desk.invoke("contract", "add", str(desk.folder / "absent.yaml"))
    with pytest.raises(InvalidInput, match="organization"):
        desk.invoke("invoice", "draft", "../acme", "2026-10")
    with pytest.raises(NotFound, match="byoc invoice list"):
        desk.invoke("invoice", "show", "X-1")
    assert desk.say("contract", "list") == ""


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        (("contract", "add"), "", "top level: found nothing, the file is empty"),
        (("contract", "add"), "- a", "top level: found a list; allowed: a mapping"),
        (("contract", "add"), "a: \0", "line 1: found character 0x0"),
        (("contract", "add"), "a: &a [1]\nb: [*a, *a]", r"line 2: found \*a; allowed: no aliases"),
        (("contract", "add"), "<<: {a: 1}", "line 1: found <<; allowed: no merged mappings"),
        (("contract", "add"), contract_text().replace("currency: USD", "currency: NO"), "currency: found false"),
        (
            ("contract", "add"),
            contract_text(more="version: 2\n"),
            r":12: version: found 2; allowed: 1",
        ),
        (("price", "add"), "price_book: standard\nversion: 1\n", "prices: found neither prices nor models"),
        (("price", "add"), PRICES.replace("version: 1", "version: true"), "version: found true; allowed: a whole"),
        (("price", "check"), PRICES.replace('"900.00"', "900.00", 1), r"prices.0..amount: found 900.0"),
        (
            ("licence", "add"),
            licence_text().replace("valid:", "valid_:"),
            "valid_: .* nearest is valid",
        ),
        (
            ("licence", "add"),
            licence_text().replace("2026-10-01", "2026-13-01", 1),
            "line 4.*13-01, which is no date",
        ),
        (("licence", "add"), licence_text(), "contract: found acme-2026; allowed: a stored contract"),
    ],
)
def test_a_refusal_names_file_field_and_value_and_nothing_is_stored(
    desk: Desk, command: tuple[str, str], text: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        desk.invoke(*command, desk.file("x.yaml", text))
    assert desk.say("contract", "list") == ""
    assert list(desk.deployment.audit().events()) == []


def test_a_stored_version_is_not_stored_again_with_another_text(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("c.yaml", contract_text()))
    with pytest.raises(Conflict, match=r"again\.yaml: contract acme-2026 version 1 is stored with another text"):
        desk.invoke("contract", "add", desk.file("again.yaml", contract_text(vcpu=20)))
    assert "16 vCPU" in desk.say("contract", "list")


def test_what_is_due_is_renewed_and_shown_before(desk: Desk) -> None:
    renewal = 'renewal: {years: 1, notice_days: 330, uplift_percent: "3.5"}\n'  # notice ended before 3 November
    desk.say("contract", "add", desk.file("c.yaml", contract_text(term=("2026-09-01", "2027-09-01"), more=renewal)))
    shown = desk.say("contract", "renew", "acme-2026", "--preview")
    assert "contract: acme-2026-r2" in shown
    assert "price_per_vcpu_year: '931.50'" in shown
    assert len(desk.say("contract", "list").splitlines()) == 1
    assert "acme-2026-r2  2027-09-01 to 2028-09-01, renews acme-2026\n1 contracts were due, 0 refused" in desk.say(
        "contract", "renew", "--due"
    )
    assert desk.say("contract", "renew", "--due") == "0 contracts were due, 0 refused\n"
    with pytest.raises(InvalidInput, match="the id of a contract, or --due"):
        desk.invoke("contract", "renew")
