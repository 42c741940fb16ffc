"""A bundle from what is stored: the revisions that a document was made from, and those that it corrects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from billing.document import utc_ms
from billing.draft import CREDIT_NOTE
from billing.invoices import Invoice, load_invoice
from billing.proof.bundle import render_bundle
from billing.proof.checkpoint_store import CheckpointStore
from billing.proof.rows import (
    BILLED,
    CORRECTED,
    COUNTED,
    INVOICE,
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
from metering.usage.model import UsageMonth


class Revisions(Protocol):
    """Where the revisions are that documents were made from."""

    def month_of(self, organization: OrganizationId, window: Window, digest: str, until_ms: int) -> UsageMonth:
        """Those of that digest, as they stood at some moment up to `until_ms`. Raises NotFound."""


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
        return render_bundle(
            invoice.json,
            self.usage_of(invoice),
            partial(self._signature, invoice),
            corrected_steps=steps,
            checkpoints=self.checkpoints.proof(invoice.number),
        )

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
