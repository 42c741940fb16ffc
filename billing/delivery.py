"""Handing documents over: what waits in the outbox becomes a mail with PDF and JSON, as a file or by SMTP.

A document is claimed before it is handed over, so of several processes one does it, and marked as sent afterwards.
A crash in between hands it over again once the claim has run out, with the same Message-ID and the same bytes.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol, Self

import sqlalchemy as sa

from billing.agreed import agreed_on
from billing.invoices import Invoice, load_invoice, state_of
from billing.life import State
from billing.models import outbox
from billing.pdf import InvoicePdf
from billing.receivables import Receivables
from billing.settings import DeliverySettings
from billing.words import label
from kernel.crashpoints import crash_point
from kernel.errors import ByocError, InvalidInput, truncate

_TIMEOUT_SECONDS = 30.0
CLAIM_MS = 600_000  # longer than any hand-over: connecting, login and data time out far below it


class Transport(Protocol):
    """Where mails go. Blocking."""

    def deliver(self, message: EmailMessage, number: str) -> None:
        """Hand one over; it may be handed over before. Raises ByocError when it was not taken."""


@dataclass(frozen=True, slots=True)
class FolderTransport:
    """Writes NUMBER.eml, whole or not at all."""

    folder: Path

    def deliver(self, message: EmailMessage, number: str) -> None:
        """Write it over an older one of the same number."""
        waiting = self.folder / f".{number}.eml.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            waiting.write_bytes(message.as_bytes())
            crash_point("delivery.half-written")
            waiting.replace(self.folder / f"{number}.eml")
        except OSError as error:
            raise ByocError(f"{truncate(str(self.folder))} can't be written: {error.strerror}") from error


class SmtpTransport:
    """One connection for all mails of a run. A context manager."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        self._server: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        """Connect, with TLS and a checked certificate. Raises InvalidInput, ByocError."""
        settings = self._settings
        if not settings.host:
            raise InvalidInput.single("delivery", "host", "nothing", "an SMTP server, or `--to-folder`")
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
            if settings.tls == "implicit":
                server: smtplib.SMTP = smtplib.SMTP_SSL(
                    settings.host, settings.port, timeout=_TIMEOUT_SECONDS, context=context
                )
            else:
                server = smtplib.SMTP(settings.host, settings.port, timeout=_TIMEOUT_SECONDS)
            self._server = server  # from here on it is closed whatever happens
            if settings.tls == "starttls":
                server.starttls(context=context)
            if settings.user:
                server.login(settings.user, settings.password.get_secret_value())
        except (OSError, smtplib.SMTPException) as error:
            self.__exit__()
            raise ByocError(f"{settings.host}:{settings.port}: {truncate(str(error))}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def deliver(self, message: EmailMessage, number: str) -> None:
        """Send it. Raises ByocError with what the server said."""
        assert self._server is not None
        try:
            self._server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise ByocError(f"{number} was not taken: {truncate(str(error))}") from error


@dataclass(frozen=True, slots=True)
class Handed:
    """One document of the outbox: to whom it went, or why not."""

    number: str
    to: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Reads the outbox and hands over what waits there, oldest first. Methods block."""

    receivables: Receivables
    renderer: InvoicePdf
    sender: str

    def deliver(self, transport: Transport, to: Callable[[Invoice], str | None]) -> Iterator[Handed]:
        """Hand over all that waits. What one document is refused for stops no other; it waits for the next run.

        A void document is not handed over any more and leaves the outbox.
        """
        for number in self.waiting():
            if self._claim(number):
                crash_point("delivery.claimed")
                try:
                    yield self._hand_over(transport, number, to)
                except ByocError as error:
                    yield Handed(number, None, str(error))
                finally:
                    self._release(number)

    def _hand_over(self, transport: Transport, number: str, to: Callable[[Invoice], str | None]) -> Handed:
        database = self.receivables.database
        invoice, state = database.read(lambda one: (load_invoice(one, number), state_of(one, number)))
        if state is State.VOID:
            database.transact(lambda one: one.execute(_mark(number, self.receivables.clock.now_ms())))
            return Handed(number, None, "void: not sent")
        address = to(invoice)
        if address is None:
            return Handed(number, None, "the contract has no `send_to`; give `--to`, or `byoc invoice send`")
        transport.deliver(message_of(invoice, self.renderer.render(invoice.json), self.sender, address), number)
        crash_point("delivery.handed-over")
        self.receivables.send(number, address)
        crash_point("delivery.sent")
        return Handed(number, address)

    def _claim(self, number: str) -> bool:
        """Whether it waits still and no other process hands it over."""
        now_ms = self.receivables.clock.now_ms()
        is_free = outbox.c.claimed_until_ms.is_(None) | (outbox.c.claimed_until_ms <= now_ms)
        claim = outbox.update().where(_waits(number) & is_free).values(claimed_until_ms=now_ms + CLAIM_MS)
        return self.receivables.database.transact(lambda one: one.execute(claim).rowcount) > 0

    def _release(self, number: str) -> None:
        release = outbox.update().where(_waits(number)).values(claimed_until_ms=None)
        self.receivables.database.transact(lambda one: one.execute(release).rowcount)

    def waiting(self) -> list[str]:
        """Numbers of the documents that were not handed over yet, oldest first."""
        query = sa.select(outbox.c.number).where(outbox.c.sent_ms.is_(None)).order_by(outbox.c.position)
        return list(dict.fromkeys(self.receivables.database.read(lambda one: one.execute(query).scalars().all())))


def contract_address(invoice: Invoice) -> str | None:
    """Where the document's own contract says that it goes."""
    return agreed_on(invoice.document).contract.send_to


def message_of(invoice: Invoice, pdf: bytes, sender: str, to: str) -> EmailMessage:
    """The mail of a document: the same bytes and Message-ID each time; its date is when the document was issued."""
    document = invoice.document
    language = document.get("language", "en")
    kind = "credit-note" if invoice.kind == "credit-note" else "invoice"
    title = f"{label(language, kind)} {invoice.number}"
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = title
    message["Date"] = format_datetime(datetime.fromtimestamp(invoice.issued_ms // 1000, UTC))
    message["Message-ID"] = f"<{invoice.number}@{sender.rpartition('@')[2]}>"
    rows = [title, f"{label(language, 'total')}: {invoice.gross} {invoice.currency}"]
    if kind == "invoice":
        payment = document["payment"]
        rows.append(f"{label(language, 'due')}: {payment['due']} {invoice.currency}")
        rows.append(f"{label(language, 'due-date')}: {payment['due_date']}")
    message.set_content("\n".join([*rows, "", document["seller"]["name"], ""]), cte="base64")
    message.add_attachment(pdf, "application", "pdf", filename=f"{invoice.number}.pdf")
    message.add_attachment(invoice.json, "application", "json", filename=f"{invoice.number}.json")
    message.set_boundary(f"=_{invoice.sha256}")
    return message


def _mark(number: str, now_ms: int) -> sa.Update:
    return outbox.update().where(_waits(number)).values(sent_ms=now_ms)


def _waits(number: str) -> sa.ColumnElement[bool]:
    return (outbox.c.number == number) & outbox.c.sent_ms.is_(None)
