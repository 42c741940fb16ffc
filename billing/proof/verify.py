"""Checks a bundle against the authority's certificate and nothing else: no vendor, no database, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract, agreed_on
from billing.draft import CREDIT_NOTE
from billing.gaps import with_gaps
from billing.proof.again import Again
from billing.proof.checkpoint import CHECKPOINTS, check_proof
from billing.proof.findings import Findings
from billing.proof.held import Held, prove_others, prove_own
from billing.proof.loading import Bundle, load_rows, load_usage, parse_json, read_file, window_of
from billing.proof.prepaid import check_payment
from billing.proof.rows import INVOICE, ROWS, SIGNATURE, STEPS, now_steps
from billing.proof.statement import check_statement
from kernel.errors import InvalidInput, truncate
from kernel.ids import OrganizationId
from kernel.merkle import root_of
from metering.usage.model import UsageMonth


@dataclass(frozen=True, slots=True)
class Verified:
    """What was shown, what was not, and what only the customer can know: `subject: statement`, one line each."""

    number: str
    proved: tuple[str, ...]
    unproved: tuple[str, ...]
    yours: tuple[str, ...] = ()


def verify_bundle(
    folder: Path, authority_pem: bytes, held: Held | None = None, *, is_within: bool = False
) -> Verified:
    """Check a bundle, and against what is held. `is_within`: one inside another, of whose payment nothing is asked.

    Raises InvalidInput that names the file and the place of the first thing that is wrong.
    """
    encoded = read_file(folder / INVOICE)
    document: dict[str, Any] = parse_json(encoded, folder / INVOICE)
    try:
        files = {name: read_file(folder / name) for name in _signed_names(document)}
        signature, source = read_file(folder / SIGNATURE), str(folder / SIGNATURE)
        statement = check_statement(signature, encoded, files, authority_pem, source)
    except (KeyError, TypeError) as error:
        raise _wrong(folder, "document", truncate(repr(error)), "a document of schema byoc/invoice/1") from error
    found, held = Findings(), held or Held()
    found.proved.append(
        "signature: the authority's key, the bytes of invoice and steps, number, period and Merkle root"
    )
    if statement["signed_at"] != document["issued_at"]:
        found.unproved.append(f"signature: that it was made when it was issued: it is of {statement['signed_at']}")
    chained = _checkpoints(folder, statement, authority_pem, held.checkpoint)
    found.proved += chained
    if not chained and not is_within:
        found.unproved.append("checkpoint: that one holds it: none was made since it was issued")
    try:
        _prove(Bundle(folder, document, encoded, authority_pem, is_within), held, found)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        name, allowed = truncate(repr(error)), "a document of schema byoc/invoice/1"
        raise InvalidInput.single(str(folder / INVOICE), "document", name, allowed) from error
    return Verified(document["number"], tuple(found.proved), tuple(found.unproved), tuple(found.yours))


def _prove(bundle: Bundle, held: Held, found: Findings) -> None:
    folder, document, authority_pem = bundle.folder, bundle.document, bundle.authority_pem
    _check_arithmetic(document, folder)
    found.proved.append("arithmetic: every line from its quantity and rate, and the totals from the lines")
    agreed = _agreed(document, folder)
    found.proved.append("contract: the text on the invoice has the sha256 that the invoice states")
    name = f"{agreed.contract.contract} version {agreed.contract.version}"
    found.yours.append(f"contract: that {name}, whose text the invoice carries, is what you agreed to: read it")
    usage = None
    if document["usage"] is not None:
        usage = _usage(folder, document)
        found.proved.append(
            f"rows: {len(usage.rows)} rows have the invoice's Merkle root, and the steps their sums"
        )
        if not bundle.is_within:
            prove_own(bundle, usage, held, found)

    def verify(within: Path) -> tuple[str, ...]:
        return verify_bundle(within, authority_pem, is_within=True).unproved

    Again(folder, document, agreed, authority_pem, verify, found).check(usage)
    if not bundle.is_within:
        prove_others(bundle, held, found)
        check_payment(folder, document, agreed, authority_pem, found)


def _signed_names(document: Mapping[str, Any]) -> list[str]:
    """The files of the bundle whose sha256 is signed with the document."""
    names = [STEPS] if document["usage"] is not None else []
    if document["kind"] != CREDIT_NOTE:
        names += [now_steps(each["number"]) for each in document.get("corrections", ())]
    return names


def _checkpoints(folder: Path, statement: Mapping[str, Any], authority_pem: bytes, kept: bytes | None) -> list[str]:
    path = folder / CHECKPOINTS
    if path.exists():
        return check_proof(read_file(path), statement, authority_pem, kept, str(path))
    if kept is not None:
        raise InvalidInput.single(str(path), "file", "none", "a bundle written since a checkpoint was made")
    return []


def _check_arithmetic(document: Mapping[str, Any], folder: Path) -> None:
    net = Decimal(0)
    for position, line in enumerate(document["lines"], 1):
        made = line["derivation"]
        unrounded, amount = Fraction(made["unrounded"]["exact"]), Fraction(line["amount"])
        parts = [Fraction(part["amount"]["exact"]) for part in made.get("parts", ())]
        where = f"lines[{position}]"
        if unrounded + Fraction(made["rounding"]["exact"]) != amount:
            raise _wrong(folder, f"{where}.amount", line["amount"], "unrounded plus rounding")
        if made["rate"] and not line["informational"]:
            product = Fraction(made["quantity"]["exact"]) * Fraction(made["rate"]["exact"])
            if not parts and product != unrounded:
                raise _wrong(folder, f"{where}.unrounded", str(unrounded), f"quantity x rate, {product}")
        net += Decimal(line["amount"])
    totals = {name: Decimal(text) for name, text in document["totals"].items()}
    if totals["net"] != net:
        raise _wrong(folder, "totals.net", str(totals["net"]), f"the sum of the lines, {net}")
    if totals["gross"] != totals["net"] + totals["tax"]:
        raise _wrong(folder, "totals.gross", str(totals["gross"]), "net plus tax")


def _agreed(document: Mapping[str, Any], folder: Path) -> AgreedContract:
    agreed = agreed_on(document)
    if agreed.snapshot.sha256 != document["contract"]["sha256"]:
        raise _wrong(folder, "contract.sha256", document["contract"]["sha256"], agreed.snapshot.sha256)
    return agreed


def _usage(folder: Path, document: Mapping[str, Any]) -> UsageMonth:
    rows, stated = load_rows(folder), document["usage"]["merkle_root"]
    root = root_of(read_file(folder / ROWS).splitlines(keepends=True)).hex()  # canonical lines, sorted
    if root != stated:
        raise InvalidInput.single(str(folder / ROWS), "Merkle root", root, f"the invoice's, {stated}")
    rows = with_gaps(rows, document["usage"].get("gaps", ()), str(folder / INVOICE))
    owner = OrganizationId(document["customer"]["organization"])
    return load_usage(folder, owner, window_of(document["period"]), rows)


def _wrong(folder: Path, where: str, found: str, allowed: str) -> InvalidInput:
    return InvalidInput.single(str(folder / INVOICE), where, found, allowed)
