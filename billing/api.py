"""The facade of billing: what console and the tests of other components may use."""

from __future__ import annotations

from billing.book import ContractBook
from billing.capacity import LicenceCapacity
from billing.draft import Draft
from billing.errors import AmbiguousContract, CapacityRefused, NoContract, SnapshotConflict, UsageNotSealed
from billing.finalize import Invoice
from billing.gauges import LicenceGauges
from billing.pdf import InvoicePdf, invoice_pdf
from billing.run import Closed, InvoiceRun

__all__ = [
    "AmbiguousContract",
    "CapacityRefused",
    "Closed",
    "ContractBook",
    "Draft",
    "Invoice",
    "InvoicePdf",
    "InvoiceRun",
    "LicenceCapacity",
    "LicenceGauges",
    "NoContract",
    "SnapshotConflict",
    "UsageNotSealed",
    "invoice_pdf",
]
