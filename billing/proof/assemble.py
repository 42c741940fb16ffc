"""A bundle from what is stored: the revisions that a document was made from, and those that it corrects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import sqlalchemy as sa

from billing.agreed import agreed_on
from billing.document import utc_ms
from billing.draft import CREDIT_NOTE, USAGE
from billing.invoices import Invoice, load_events, load_invoice, load_invoices
from billing.life import Event
from billing.proof.bundle import render_bundle
from billing.proof.checkpoint_store import CheckpointStore
from billing.proof.rows import (
    BILLED,
    CORRECTED,
    COUNTED,
    EARLIER,
    INVOICE,
    METERS,
    NOW,
    ROWS,
    SIGNATURE,
    now_steps,
    render_rows,
    render_steps,
)
from billing.proof.signatures import load_signature, sign_now
from kernel.database import Database
from kernel.errors import Conflict, NotFound
from kernel.ids import OrganizationId
from kernel.window import Window
from metering.meters.parts import MeterRequest
from metering.usage.model import MeterUsage, UsageMonth


class Revisions(Protocol):
    """Where the revisions are that documents were made from."""

    def month_of(self, organization: OrganizationId, window: Window, digest: str, until_ms: int) -> UsageMonth:
        """Those of that digest, as they stood at some moment up to `until_ms`. Raises NotFound."""

    def meter_of(self, request: MeterRequest, digest: str, until_ms: int) -> MeterUsage:
        """Likewise of a meter."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """Methods block; call them from a worker thread."""

    database: Database
    revisions: Revisions
    checkpoints: CheckpointStore

    def bundle(self, invoice: Invoice) -> dict[str, bytes]:
        """All files by name, with those of every invoice that it corrects. Raises Conflict."""
        document = invoice.document
        files = self._own(invoice, document)
        for each in document.get("corrections", ()):
            files |= self._corrected(document, each)
        return files

    def usage_of(self, invoice: Invoice) -> UsageMonth | None:
        """The usage that a document was made from; None where it was made from none. Raises Conflict."""
        document = invoice.document
        if document["usage"] is None:
            return None
        return self._usage(document, document, document["usage"]["revision_digest"])

    def _own(self, invoice: Invoice, document: Mapping[str, Any]) -> dict[str, bytes]:
        steps = {}
        if document["kind"] != CREDIT_NOTE:
            for each in document.get("corrections", ()):
                usage = self._usage(document, self._document(each["number"]), each["revision_digest"])
                steps[now_steps(each["number"])] = render_steps(usage)
        tied = {f"{METERS}/{number}.tsv": rows for number, rows in self._meters(document)}
        for one in self._earlier(invoice, document):
            tied[f"{EARLIER}/{one.number}/{INVOICE}"] = one.json
            tied[f"{EARLIER}/{one.number}/{SIGNATURE}"] = self._signature(one, {})
        return render_bundle(
            invoice.json,
            self.usage_of(invoice),
            partial(self._signature, invoice),
            corrected_steps=steps,
            tied=tied,
            checkpoints=self.checkpoints.proof(invoice.number),
        )

    def _meters(self, document: Mapping[str, Any]) -> Iterator[tuple[int, bytes]]:
        """The rows of each meter that charges used, by its place on the document, from 1."""
        owner, rule = OrganizationId(document["customer"]["organization"]), agreed_on(document).contract.gap_rule
        for number, each in enumerate((document["usage"] or {}).get("meters", ()), start=1):
            window = Window(utc_ms(each["start"]), utc_ms(each["end"]))
            request = MeterRequest(owner, each["meter"], window, None, rule)
            try:
                usage = self.revisions.meter_of(request, each["revision_digest"], utc_ms(document["issued_at"]))
            except NotFound as error:
                raise Conflict(f"no bundle of what was billed: {error}") from error
            yield number, b"".join(usage.leaves)

    def _earlier(self, invoice: Invoice, document: Mapping[str, Any]) -> list[Invoice]:
        """The monthly invoices that stood when this one counted what its spend commitment was used for."""
        if document["kind"] != USAGE or agreed_on(document).contract.spend_commitment is None:
            return []

        def read(connection: sa.Connection) -> list[Invoice]:
            before = [
                one
                for one in load_invoices(connection, contract=invoice.contract)
                if one.kind == USAGE and one.issued_ms < invoice.issued_ms
            ]
            happened = load_events(connection, (one.number for one in before))
            return [
                one
                for one in before
                if not any(
                    each.event is Event.VOID and each.at_ms <= invoice.issued_ms for each in happened[one.number]
                )
            ]

        return self.database.read(read)

    def _corrected(self, document: Mapping[str, Any], each: Mapping[str, Any]) -> dict[str, bytes]:
        number, folder = each["number"], f"{CORRECTED}/{each['number']}"
        original = self._invoice(number)
        billed = self._own(original, original.document)
        files = {f"{folder}/{BILLED}/{name}": content for name, content in billed.items()}
        if document["kind"] != CREDIT_NOTE:
            usage = self._usage(document, original.document, each["revision_digest"])
            files[f"{folder}/{NOW}/{ROWS}"] = render_rows(usage.rows)
        for counted in each["counted"]:
            if counted != number:
                one = self._invoice(counted)
                files[f"{folder}/{COUNTED}/{counted}/{INVOICE}"] = one.json
                files[f"{folder}/{COUNTED}/{counted}/{SIGNATURE}"] = self._signature(one, {})
        return files

    def _usage(self, made: Mapping[str, Any], of: Mapping[str, Any], digest: str) -> UsageMonth:
        """The revisions of the period of `of` that `made` was made from."""
        period = Window(utc_ms(of["period"]["start"]), utc_ms(of["period"]["end"]))
        owner = OrganizationId(of["customer"]["organization"])
        try:
            return self.revisions.month_of(owner, period, digest, utc_ms(made["issued_at"]))
        except NotFound as error:
            raise Conflict(f"no bundle of what was billed: {error}") from error

    def _signature(self, invoice: Invoice, files: Mapping[str, str]) -> bytes:
        stored = load_signature(self.database, invoice.number)
        return stored or sign_now(invoice, files, self.checkpoints.signer, self.checkpoints.clock)

    def _document(self, number: str) -> Mapping[str, Any]:
        return self._invoice(number).document

    def _invoice(self, number: str) -> Invoice:
        return self.database.read(partial(load_invoice, number=number))
