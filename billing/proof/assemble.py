"""A bundle from what is stored: the revisions that a document was made from, and those that it corrects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import sqlalchemy as sa

from billing.agreed import agreed_on
from billing.document import utc_ms
from billing.draft import CREDIT_NOTE, USAGE
from billing.invoices import Invoice, load_events, load_invoice, load_invoices
from billing.life import Event
from billing.marketplace.store import load_told
from billing.marketplace.terms import subscription_of
from billing.proof.behind import Part
from billing.proof.booked import load_booked
from billing.proof.bundle import render_bundle
from billing.proof.checkpoint_store import CheckpointStore
from billing.proof.evidence import Definitions, Sourced
from billing.proof.prepaid import render_prepaid
from billing.proof.rows import (
    BILLED,
    CAPACITY,
    CORRECTED,
    COUNTED,
    DRAWN,
    EARLIER,
    INVOICE,
    MARKETPLACE,
    METERS,
    NOW,
    PREPAID,
    ROWS,
    SIGNATURE,
    STEPS,
    THRESHOLDS,
    now_steps,
    render_rows,
    render_steps,
)
from billing.proof.sections import sections_of
from billing.proof.signatures import load_signature, sign_now
from billing.thresholds import THRESHOLD
from kernel.database import Database
from kernel.errors import Conflict, NotFound
from kernel.ids import OrganizationId
from kernel.window import Window
from metering.usage.model import MeterRequest, MeterUsage, UsageMonth


class Revisions(Protocol):
    """Where the revisions are that documents were made from."""

    def month_of(self, organization: OrganizationId, window: Window, digest: str, until_ms: int) -> UsageMonth:
        """Those of that digest, as they stood at some moment up to `until_ms`. Raises NotFound."""

    def meter_of(self, request: MeterRequest, digest: str, until_ms: int) -> MeterUsage:
        """Likewise of a meter."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """Of one document. Methods block; call them from a worker thread."""

    database: Database
    revisions: Revisions
    checkpoints: CheckpointStore
    _months: dict[tuple[Window, str], UsageMonth] = field(default_factory=dict)  # several parts may be of one

    def bundle(self, invoice: Invoice) -> dict[str, bytes]:
        """All files by name, with those of every invoice that it corrects. Raises Conflict."""
        document = invoice.document
        files = self._own(invoice, document) | self._prepaid(invoice)
        for each in document.get("corrections", ()):
            files |= self._corrected(document, each)
        if invoice.kind == CREDIT_NOTE and "corrections" not in document:  # a person wrote it
            number = document["credits"]
            files |= self._billed(self._invoice(number), f"{CORRECTED}/{number}")
        return files

    def parts(self, invoice: Invoice) -> Iterator[Part]:
        """The parts of a document that were rated from hours, with those hours. Raises Conflict."""
        document, made_ms = invoice.document, invoice.issued_ms
        for section in sections_of(document, lambda number: _window(self._document(number)["period"])):
            rated = self._document(section.number) if section.number else document
            usage = self._usage(section.period, rated, section.stated["revision_digest"], made_ms)
            groups = {each.charge: each.group_by for each in agreed_on(rated).contract.charges}
            yield Part(section, usage, tuple(self._measured(rated, section.stated, made_ms)), groups)

    def _usage_of(self, invoice: Invoice) -> UsageMonth | None:
        document = invoice.document
        if document["usage"] is None:
            return None
        digest = document["usage"]["revision_digest"]
        return self._usage(_window(document["period"]), document, digest, invoice.issued_ms)

    def sourced(self, invoice: Invoice) -> Iterator[tuple[str, list[Sourced], Definitions]]:
        """By the folder of its evidence, the rows of each part of a document, and definitions of its meters."""
        for part in self.parts(invoice):
            rows: list[Sourced] = [row for row in part.usage.rows if row.hour.intersection(part.section.window)]
            definitions = {}
            for number, (_, measured) in enumerate(part.meters, start=1):
                rows += measured.rows
                if measured.definitions:
                    definitions[f"{METERS}/{number}.tsv"] = measured.definitions
            yield part.section.evidence, rows, definitions

    def _prepaid(self, invoice: Invoice) -> dict[str, bytes]:
        """The grants that a document could draw on, signed now, and the documents that drew on them before it."""
        signer, document = self.checkpoints.signer, invoice.document
        if signer is None or invoice.kind == CREDIT_NOTE:
            return {}
        booked, drawn, void = self.database.read(partial(load_booked, invoice=invoice))
        if not booked:
            return {}
        files = {PREPAID: render_prepaid(document, invoice.json, booked, (drawn, void), signer)}
        for number in drawn:
            files |= self._signed(f"{DRAWN}/{number}", self._invoice(number))
        return files

    def _own(self, invoice: Invoice, document: Mapping[str, Any]) -> dict[str, bytes]:
        steps = {}
        if document["kind"] != CREDIT_NOTE:
            for each in document.get("corrections", ()):
                original = self._document(each["number"])
                window, digest = _window(original["period"]), each["revision_digest"]
                usage = self._usage(window, original, digest, invoice.issued_ms)
                steps[now_steps(each["number"])] = render_steps(usage)
        tied: dict[str, bytes] = {}
        if invoice.kind != CREDIT_NOTE:
            tied = self._rated_from(invoice, document, document["usage"] or {}, invoice.issued_ms)
            for one in self._thresholds(invoice):
                tied |= self._signed(f"{THRESHOLDS}/{one.number}", one)
        return render_bundle(
            invoice.json,
            self._usage_of(invoice),
            partial(self._signature, invoice),
            corrected_steps=steps,
            tied=tied,
            checkpoints=self.checkpoints.proof(invoice.number),
        )

    def _rated_from(
        self, invoice: Invoice, document: Mapping[str, Any], stated: Mapping[str, Any], made_ms: int
    ) -> dict[str, bytes]:
        """What the period of `invoice` was rated from, as `stated` names it, by a document made at `made_ms`."""
        measured = enumerate(self._measured(document, stated, made_ms), start=1)
        files = {f"{METERS}/{number}.tsv": b"".join(usage.leaves) for number, (_, usage) in measured}
        for number, each in enumerate(stated.get("marketplace", ()), start=1):
            of = document["contract"]["id"], each["charge"]
            load = partial(
                load_told, subscription=subscription_of(each), of=of, window=_window(each), rows=int(each["rows"])
            )
            files[f"{MARKETPLACE}/{number}.tsv"] = b"".join(self.database.read(load).leaves)
        for number, each in enumerate(stated.get("capacity", ()), start=1):
            usage = self._usage(_window(each), document, each["revision_digest"], made_ms)
            files[f"{CAPACITY}/{number}/{ROWS}"] = render_rows(usage.rows)
            files[f"{CAPACITY}/{number}/{STEPS}"] = render_steps(usage)
        for one in self._earlier(invoice, document, made_ms):
            files |= self._signed(f"{EARLIER}/{one.number}", one)
        return files

    def _measured(
        self, document: Mapping[str, Any], stated: Mapping[str, Any], made_ms: int
    ) -> Iterator[tuple[Mapping[str, Any], MeterUsage]]:
        """Each meter that charges used, in the order of the document."""
        owner, rule = OrganizationId(document["customer"]["organization"]), agreed_on(document).contract.gap_rule
        for each in stated.get("meters", ()):
            request = MeterRequest(owner, each["meter"], _window(each), None, rule)
            try:
                usage = self.revisions.meter_of(request, each["revision_digest"], made_ms)
            except NotFound as error:
                raise Conflict(f"no bundle of what was billed: {error}") from error
            yield each, usage

    def _earlier(self, invoice: Invoice, document: Mapping[str, Any], made_ms: int) -> list[Invoice]:
        """The monthly invoices before this one that stood when a spend commitment was counted."""
        is_rated = document["kind"] in {USAGE, THRESHOLD}
        if not is_rated or agreed_on(document).contract.spend_commitment is None:
            return []
        return self._stood(invoice, made_ms, lambda one: one.kind == USAGE)

    def _thresholds(self, invoice: Invoice) -> list[Invoice]:
        """The threshold invoices of its month that stood when it was issued."""
        if invoice.kind not in {USAGE, THRESHOLD}:
            return []
        month = invoice.document["period"]["name"]
        return self._stood(
            invoice,
            invoice.issued_ms,
            lambda one: one.kind == THRESHOLD and one.document["period"]["name"] == month,
        )

    def _stood(self, invoice: Invoice, at_ms: int, wanted: Callable[[Invoice], bool]) -> list[Invoice]:
        """Documents of a contract that were issued before `invoice` and not void at a moment."""

        def read(connection: sa.Connection) -> list[Invoice]:
            issued = load_invoices(connection, contract=invoice.contract)
            before = [one for one in issued if one.issued_ms < invoice.issued_ms and wanted(one)]
            happened = load_events(connection, (one.number for one in before))
            return [
                one
                for one in before
                if not any(each.event is Event.VOID and each.at_ms <= at_ms for each in happened[one.number])
            ]

        return self.database.read(read)

    def _corrected(self, document: Mapping[str, Any], each: Mapping[str, Any]) -> dict[str, bytes]:
        number, folder = each["number"], f"{CORRECTED}/{each['number']}"
        original = self._invoice(number)
        files = self._billed(original, folder)
        latest = "" if document["kind"] == CREDIT_NOTE else f"{folder}/{NOW}/"
        made_ms = utc_ms(document["issued_at"])
        now = self._rated_from(original, original.document, each, made_ms)
        files |= {f"{latest}{name}": content for name, content in now.items()}
        if latest:
            window, digest = _window(original.document["period"]), each["revision_digest"]
            usage = self._usage(window, original.document, digest, made_ms)
            files[f"{latest}{ROWS}"] = render_rows(usage.rows)
        for counted in each["counted"]:
            if counted != number:
                files |= self._signed(f"{folder}/{COUNTED}/{counted}", self._invoice(counted))
        return files

    def _billed(self, original: Invoice, folder: str) -> dict[str, bytes]:
        files = self._own(original, original.document)
        return {f"{folder}/{BILLED}/{name}": content for name, content in files.items()}

    def _signed(self, folder: str, one: Invoice) -> dict[str, bytes]:
        """A document that counts, with its signature."""
        return {f"{folder}/{INVOICE}": one.json, f"{folder}/{SIGNATURE}": self._signature(one, {})}

    def _usage(self, window: Window, of: Mapping[str, Any], digest: str, made_ms: int) -> UsageMonth:
        """The revisions of a window, of the customer of `of`, that a document of that moment was made from."""
        owner = OrganizationId(of["customer"]["organization"])
        if (window, digest) not in self._months:
            try:
                self._months[window, digest] = self.revisions.month_of(owner, window, digest, made_ms)
            except NotFound as error:
                raise Conflict(f"no bundle of what was billed: {error}") from error
        return self._months[window, digest]

    def _signature(self, invoice: Invoice, files: Mapping[str, str]) -> bytes:
        stored = load_signature(self.database, invoice.number)
        return stored or sign_now(invoice, files, self.checkpoints.signer, self.checkpoints.clock)

    def _document(self, number: str) -> Mapping[str, Any]:
        return self._invoice(number).document

    def _invoice(self, number: str) -> Invoice:
        return self.database.read(partial(load_invoice, number=number))


def _window(stated: Mapping[str, Any]) -> Window:
    return Window(utc_ms(stated["start"]), utc_ms(stated["end"]))
