"""The facade of billing: what console and the tests of other components may use."""

from __future__ import annotations

from billing.ageing import Ageing, ageing
from billing.batch import MonthDone, MonthRun, Refused
from billing.book import ContractBook
from billing.capacity import LicenceCapacity
from billing.delivery import Delivery
from billing.delivery_worker import DeliveryWorker
from billing.draft import Draft
from billing.errors import (
    AmbiguousContract,
    CapacityRefused,
    GraceNotOver,
    NoContract,
    NotApproved,
    QuantityUnknown,
    SnapshotConflict,
    UsageNotSealed,
    WrongState,
)
from billing.gauges import LicenceGauges
from billing.invoices import Invoice
from billing.pdf import InvoicePdf, invoice_pdf
from billing.prepaid import GrantTerms, Prepaid
from billing.proof.checkpoint_store import Checkpoint, CheckpointStore
from billing.proof.signatures import open_signer
from billing.receivables import Receivables
from billing.run import Closed, InvoiceRun
from billing.standing import Standing
from billing.terms_worker import TermsWorker

__all__ = [
    "Ageing",
    "AmbiguousContract",
    "CapacityRefused",
    "Checkpoint",
    "CheckpointStore",
    "Closed",
    "ContractBook",
    "Delivery",
    "DeliveryWorker",
    "Draft",
    "GraceNotOver",
    "GrantTerms",
    "Invoice",
    "InvoicePdf",
    "InvoiceRun",
    "LicenceCapacity",
    "LicenceGauges",
    "MonthDone",
    "MonthRun",
    "NoContract",
    "NotApproved",
    "Prepaid",
    "QuantityUnknown",
    "Receivables",
    "Refused",
    "SnapshotConflict",
    "Standing",
    "TermsWorker",
    "UsageNotSealed",
    "WrongState",
    "ageing",
    "invoice_pdf",
    "open_signer",
]
