"""Documents leave the house: as files, through a real SMTP server with TLS, as tables, and on a statement."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pypdf
import pytest
import sqlalchemy as sa
import trustme
from aiosmtpd.controller import Controller
from prometheus_client import CollectorRegistry

from billing.api import invoice_pdf
from billing.delivery import (
    CLAIM_MS,
    Delivery,
    FolderTransport,
    Handed,
    SmtpTransport,
    Transport,
    contract_address,
)
from billing.delivery_worker import DeliveryWorker
from billing.life import State
from billing.models import outbox
from billing.settings import DeliverySettings
from billing.statement import statement, statement_csv, statement_parquet, statement_pdf
from billing.tables import lines_csv, lines_parquet
from kernel.errors import ByocError, InvalidInput
from kernel.money import Money, currency
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text, ten_vcpu_above_for_an_hour

SEND_TO = "send_to: billing@example.com\n"
COMMITMENT, USAGE = "EXAMPLE-EU-2026-000001", "EXAMPLE-EU-2026-000002"


def _close(office: Office, more: str = SEND_TO) -> None:
    office.book.add_contract(contract_text(more=more), "contract.yaml", "test")
    office.usage.levels = ten_vcpu_above_for_an_hour(month("2026-10"))
    office.run.close(ACME, "2026-10")


def _delivery(office: Office) -> Delivery:
    return Delivery(office.receivables, invoice_pdf(), "invoices@example.org")


def _deliver(office: Office, transport: Any) -> list[Handed]:
    return list(_delivery(office).deliver(transport, contract_address))


def _waiting(office: Office) -> int:
    query = sa.select(sa.func.count()).select_from(outbox).where(outbox.c.sent_ms.is_(None))
    return int(office.database.read(lambda one: one.execute(query).scalar_one()))


def _parse(content: bytes) -> EmailMessage:
    found = message_from_bytes(content, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_each_document_becomes_a_mail_once_and_is_sent_then(small_office: Office, tmp_path: Path) -> None:
    _close(small_office)

    handed = _deliver(small_office, FolderTransport(tmp_path))

    assert [(one.number, one.to) for one in handed] == [(n, "billing@example.com") for n in (COMMITMENT, USAGE)]
    assert small_office.receivables.standing(USAGE).state is State.SENT
    assert _waiting(small_office) == 0
    assert _deliver(small_office, FolderTransport(tmp_path)) == []
    mail = _parse((tmp_path / f"{USAGE}.eml").read_bytes())
    assert mail["Message-ID"] == f"<{USAGE}@example.org>"
    assert mail["Subject"] == f"Invoice {USAGE}"
    body = mail.get_body()
    assert body is not None
    assert "Due: 1.03 USD\nDue: 2026-12-03" in body.get_content().replace("\r", "")
    attached = {part.get_filename(): part.get_payload(decode=True) for part in mail.iter_attachments()}
    invoice = small_office.run.invoice(USAGE)
    assert attached == {f"{USAGE}.pdf": invoice_pdf().render(invoice.json), f"{USAGE}.json": invoice.json}


def test_after_a_crash_before_the_mark_the_same_mail_is_handed_over_again(small_office: Office) -> None:
    _close(small_office)
    seen: list[bytes] = []

    class Crashing:
        def deliver(self, message: EmailMessage, number: str) -> None:
            seen.append(message.as_bytes())
            if len(seen) == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _deliver(small_office, Crashing())
    assert small_office.receivables.standing(COMMITMENT).state is State.FINAL
    _deliver(small_office, Crashing())

    assert seen[0] == seen[1] != seen[2]
    assert len(seen) == 3


def test_two_that_deliver_at_once_hand_each_document_over_once(office: Office) -> None:
    """The first is held in the middle of a hand-over until the second has gone through all that waits."""
    _close(office)
    taken: list[str] = []
    begun, other_is_done = Event(), Event()

    class Held:
        def deliver(self, message: EmailMessage, number: str) -> None:
            taken.append(number)
            begun.set()
            assert other_is_done.wait(60)

    class Free:
        def deliver(self, message: EmailMessage, number: str) -> None:
            taken.append(number)

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(_deliver, office, Held())
        assert begun.wait(60)
        second = _deliver(office, Free())
        other_is_done.set()
        handed = first.result(60)
    assert [one.number for one in handed] == [COMMITMENT]
    assert [one.number for one in second] == [USAGE]
    assert taken == [COMMITMENT, USAGE]
    assert _waiting(office) == 0


def test_what_a_killed_process_had_claimed_is_handed_over_once_the_claim_has_run_out(
    small_office: Office, tmp_path: Path
) -> None:
    _close(small_office)
    until = small_office.clock.now_ms() + CLAIM_MS
    small_office.database.transact(lambda one: one.execute(outbox.update().values(claimed_until_ms=until)).rowcount)
    assert _deliver(small_office, FolderTransport(tmp_path)) == []
    small_office.clock.step_wall(CLAIM_MS / 1000)
    assert len(_deliver(small_office, FolderTransport(tmp_path))) == 2


async def test_the_worker_mails_what_was_issued_and_goes_on_after_a_server_that_is_away(
    small_office: Office, tmp_path: Path
) -> None:
    attempts: list[int] = []
    folder = tmp_path / "out"

    def connect(settings: DeliverySettings) -> AbstractContextManager[Transport]:
        attempts.append(small_office.clock.now_ms())
        if len(attempts) == 1:
            raise ByocError("the server is away")
        return nullcontext(FolderTransport(folder))

    registry = CollectorRegistry()
    settings = DeliverySettings(interval_seconds=60)
    worker = DeliveryWorker(_delivery(small_office), settings, small_office.clock, registry, connect)
    assert worker.look() == 0
    assert attempts == [], "nobody is called when nothing waits"
    await asyncio.to_thread(_close, small_office)
    running = asyncio.create_task(worker.run())
    while _waiting(small_office):
        await small_office.clock.advance(60)
        await asyncio.sleep(0.01)  # the outbox is read in a thread
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(path.name for path in folder.iterdir()) == [f"{COMMITMENT}.eml", f"{USAGE}.eml"]
    assert registry.get_sample_value("byoc_billing_documents_waiting") == 0


def test_what_one_document_is_refused_for_stops_no_other(small_office: Office, tmp_path: Path) -> None:
    _close(small_office)

    class Choosy(FolderTransport):
        def deliver(self, message: EmailMessage, number: str) -> None:
            if number == COMMITMENT:
                raise ByocError("mailbox full")
            FolderTransport.deliver(self, message, number)

    first, second = _deliver(small_office, Choosy(tmp_path))
    assert (first.to, first.reason, second.to) == (None, "mailbox full", "billing@example.com")
    assert _waiting(small_office) == 1


def test_a_document_without_address_waits_and_a_void_one_leaves(small_office: Office, tmp_path: Path) -> None:
    _close(small_office, more="")
    small_office.receivables.void(COMMITMENT, "wrong")

    void, waits = _deliver(small_office, FolderTransport(tmp_path))

    assert void.reason.startswith("void")
    assert "send_to" in waits.reason
    assert list(tmp_path.glob("*.eml")) == []
    assert [one.number for one in _deliver(small_office, FolderTransport(tmp_path))] == [USAGE]


@pytest.mark.parametrize(
    "address", ["billing", "a@b", "a@example.com, b@example.com", "a@example.com\\nBcc: x@y.zz"]
)
def test_an_address_is_one_address(small_office: Office, address: str) -> None:
    with pytest.raises(InvalidInput, match="send_to"):
        _close(small_office, more=f'send_to: "{address}"\n')


@dataclass
class Mailbox:
    """An aiosmtpd handler that keeps what it takes."""

    mails: list[bytes] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        self.encrypted.append(session.ssl is not None)
        return "250 taken"


@dataclass
class Server:
    """A real SMTP server on a free port."""

    box: Mailbox
    port: int
    ca_file: Path

    def settings(self, **more: Any) -> DeliverySettings:
        return DeliverySettings(host="127.0.0.1", port=self.port, ca_file=self.ca_file, **more)


class _FreePort(Controller):
    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]  # the system chose it
        super()._trigger_server()  # type: ignore[no-untyped-call]


@pytest.fixture(params=["starttls", "plain"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    box = Mailbox()
    tls: dict[str, Any] = {"tls_context": context, "require_starttls": True} if request.param == "starttls" else {}
    controller = _FreePort(box, hostname="127.0.0.1", port=0, **tls)
    controller.start()
    yield Server(box, controller.port, tmp_path / "ca.pem")
    controller.stop()


@pytest.mark.parametrize("server", ["starttls"], indirect=True)
def test_mails_go_through_tls_to_a_real_server(small_office: Office, server: Server) -> None:
    _close(small_office)

    with SmtpTransport(server.settings()) as transport:
        handed = _deliver(small_office, transport)

    assert [one.to for one in handed] == ["billing@example.com"] * 2, handed
    assert server.box.encrypted == [True, True]
    assert [_parse(mail)["Message-ID"] for mail in server.box.mails] == [
        f"<{number}@example.org>" for number in (COMMITMENT, USAGE)
    ]


@pytest.mark.parametrize("server", ["starttls"], indirect=True)
def test_a_server_with_a_certificate_of_another_authority_gets_nothing(server: Server) -> None:
    settings = server.settings().model_copy(update={"ca_file": None})
    with pytest.raises(ByocError, match="CERTIFICATE_VERIFY_FAILED"), SmtpTransport(settings):
        pass


@pytest.mark.parametrize("server", ["plain"], indirect=True)
def test_a_server_without_tls_gets_nothing(server: Server) -> None:
    with pytest.raises(ByocError, match="STARTTLS"), SmtpTransport(server.settings(user="u", password="secret")):
        pass
    assert server.box.mails == []


def test_the_lines_as_csv_and_parquet(small_office: Office) -> None:
    _close(small_office)
    encoded = small_office.run.invoice(USAGE).json

    rows = list(csv.DictReader(io.StringIO(lines_csv(encoded).decode())))
    table = pq.read_table(io.BytesIO(lines_parquet(encoded))).to_pylist()

    assert [row["amount"] for row in rows] == ["0.00", "1.03"]
    assert (rows[1]["quantity_exact"], rows[1]["rate_exact"], rows[1]["currency"]) == ("600", "1/584", "USD")
    assert [row["amount"] for row in table] == [Decimal("0.00"), Decimal("1.03")]
    assert table[0]["period_start"] == month("2026-10").start
    assert [row["informational"] for row in table] == [True, False]
    assert lines_parquet(encoded) == lines_parquet(encoded)


def test_a_statement_of_account(small_office: Office) -> None:
    _close(small_office)
    encoded = statement(ACME, small_office.receivables.statement(ACME), date(2026, 12, 10))

    said = json.loads(encoded)
    assert [(one["number"], one["open"]) for one in said["documents"]] == [
        (COMMITMENT, "14400.00"),
        (USAGE, "1.03"),
    ]
    [ageing] = said["ageing"]
    assert ageing["total"] == "14401.03"
    assert {one["days"]: one["amount"] for one in ageing["open"]}["1-30"] == "14401.03"
    assert statement_csv(encoded).decode().splitlines()[1].startswith(f"{COMMITMENT},commitment,")
    pdf = statement_pdf(encoded, invoice_pdf())
    assert pdf == statement_pdf(encoded, invoice_pdf())
    text = pypdf.PdfReader(io.BytesIO(pdf)).pages[0].extract_text()
    for expected in ("Statement of account", USAGE, "14401.03", "1-30 days", "final"):
        assert expected in text


def test_a_statement_of_account_as_parquet(small_office: Office) -> None:
    _close(small_office)
    small_office.receivables.credit(COMMITMENT, {0: Money(Decimal(400), currency("USD"))}, "goodwill")
    encoded = statement(ACME, small_office.receivables.statement(ACME), date(2026, 12, 10))
    content = statement_parquet(encoded)
    assert content == statement_parquet(encoded)
    table = pq.read_table(io.BytesIO(content))
    assert table.schema.field("open").type == pa.decimal128(38, 4)
    listed = list(csv.DictReader(io.StringIO(statement_csv(encoded).decode())))
    rows = table.to_pylist()
    assert [row["number"] for row in rows] == [row["number"] for row in listed]
    assert [row["open"] for row in rows] == [Decimal(row["open"]) for row in listed]
    assert sum(row["gross"] for row in rows) == Decimal("14001.03")
    assert [row["due_date"].isoformat() if row["due_date"] else "" for row in rows] == [
        row["due_date"] for row in listed
    ]
    note = next(row for row in rows if row["kind"] == "credit-note")
    assert (note["due_date"], note["issue_date"]) == (None, date.fromisoformat(listed[0]["issue_date"]))


def test_a_chinese_statement(small_office: Office) -> None:
    _close(small_office, more="language: zh\n")
    encoded = statement(ACME, small_office.receivables.statement(ACME), date(2026, 12, 10))
    pdf = pypdf.PdfReader(io.BytesIO(statement_pdf(encoded, invoice_pdf())))

    assert "对账单" in pdf.pages[0].extract_text()
    fonts = pdf.pages[0]["/Resources"]["/Font"].values()  # type: ignore[index]
    assert any("NotoSansCJKsc" in str(font.get_object()["/BaseFont"]) for font in fonts)
