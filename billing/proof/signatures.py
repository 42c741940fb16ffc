"""Signatures as they were stored when documents were issued, and the key that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from billing.document import utc_text
from billing.invoices import Invoice
from billing.models import signatures
from billing.proof.statement import InvoiceSigner, statement_of
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Conflict
from kernel.identity import CertificateAuthority
from kernel.identity.authority import CERTIFICATE_FILE
from kernel.identity.receipt_key import open_invoice_key


def open_signer(authority_folder: Path, clock: Clock) -> InvoiceSigner | None:
    """The vendor's key for documents, made if there is none; None where there is no authority to vouch for it.

    Raises InvalidInput: files damaged, or readable by others.
    """
    if not (authority_folder / CERTIFICATE_FILE).exists():
        return None
    authority = CertificateAuthority.open(authority_folder, clock)
    return InvoiceSigner.of(open_invoice_key(authority_folder), authority.sign_statement)


def load_signature(database: Database, number: str) -> bytes | None:
    """`signature.json` of a document, as it was signed when the document was issued; None if it was not."""
    query = sa.select(signatures.c.signed).where(signatures.c.number == number)
    found = database.read(lambda connection: connection.execute(query).scalar())
    return None if found is None else found.encode()


def sign_now(invoice: Invoice, files: Mapping[str, str], signer: InvoiceSigner | None, clock: Clock) -> bytes:
    """A signature for a document that was issued without one; it states its own time. Raises Conflict."""
    if signer is None:
        raise Conflict("there is no authority that vouches for a key: `byoc ca init` makes one")
    statement = statement_of(invoice.document, invoice.json, files, utc_text(clock.now_ms()))
    return signer.sign(statement)
