"""Checks a bundle against the authority's certificate and nothing else: no vendor, no database, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract, agreed_on
from billing.corrections import corrected_lines
from billing.draft import CREDIT_NOTE, USAGE
from billing.gaps import with_gaps
from billing.proof.amounts import check_lines, is_whole, rated_again
from billing.proof.checkpoint import CHECKPOINTS, check_proof
from billing.proof.held import Held, prove_held
from billing.proof.loading import load_rows, load_usage, parse_json, read_file
from billing.proof.metered import load_meters
from billing.proof.rows import BILLED, CORRECTED, COUNTED, EARLIER, INVOICE, NOW, ROWS, SIGNATURE, STEPS, now_steps
from billing.proof.statement import check_statement, open_signed
from billing.rating.true_up import due_periods
from kernel.errors import InvalidInput, truncate
from kernel.merkle import root_of
from metering.usage.model import UsageMonth, digest_of


@dataclass(frozen=True, slots=True)
class Verified:
    """What was shown, and what was not, in words."""

    number: str
    proved: tuple[str, ...]
    unproved: tuple[str, ...]


def verify_bundle(folder: Path, authority_pem: bytes, held: Held | None = None) -> Verified:
    """Check a bundle, and against what is held.

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
    proved = ["signature: the authority's key, the bytes of invoice and steps, number, period and Merkle root"]
    unproved: list[str] = []
    if statement["signed_at"] != document["issued_at"]:
        unproved.append(f"that it was signed when it was issued: the signature is of {statement['signed_at']}")
    held = held or Held()
    chained = _checkpoints(folder, statement, authority_pem, held.checkpoint)
    proved += chained
    if not chained:
        unproved.append("that a checkpoint holds it: none was made since it was issued")
    try:
        _check_arithmetic(document, folder)
        proved.append("arithmetic: every line from its quantity and rate, and the totals from the lines")
        agreed = _agreed(document, folder)
        proved.append("contract: the text on the invoice has the sha256 that the invoice states")
        if document["usage"] is not None:
            usage = _usage(folder, document)
            proved.append(f"rows: {len(usage.rows)} rows have the invoice's Merkle root, and the steps their sums")
            shown, left = prove_held(folder, document, encoded, usage, authority_pem, held)
            proved += shown
            unproved += left
        if document["kind"] == USAGE:
            earlier = [_signed(path, authority_pem) for path in sorted((folder / EARLIER).glob("*"))]
            for one in earlier:
                if one["contract"]["id"] != document["contract"]["id"] or one["kind"] != USAGE:
                    allowed = f"a monthly invoice of {document['contract']['id']}"
                    raise _wrong(folder / EARLIER / one["number"], "contract.id", one["contract"]["id"], allowed)
            again, others = _recompute(document, agreed, usage, folder, earlier)
            if earlier:
                named = ", ".join(str(one["number"]) for one in earlier)
                unproved.append(f"that no other invoices count for the spend commitment than {named}")
            proved.append(f"amounts: {again} of {again + len(others)} lines recomputed from rows and contract")
            unproved += [f"the quantity of line {position}, {kind}" for position, kind in others]
        elif not document.get("corrections"):
            unproved.append(f"the lines of a {document['kind']} document from its contract")
        for each in document.get("corrections", ()):
            shown, left = _correction(folder, document, each, authority_pem)
            proved += shown
            unproved += left
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        found, allowed = truncate(repr(error)), "a document of schema byoc/invoice/1"
        raise InvalidInput.single(str(folder / INVOICE), "document", found, allowed) from error
    return Verified(document["number"], tuple(proved), tuple(unproved))


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
    return load_usage(folder, document, rows)


def _correction(
    folder: Path, document: Mapping[str, Any], each: Mapping[str, Any], authority_pem: bytes
) -> tuple[list[str], list[str]]:
    """The lines that correct an earlier invoice, from its bundle within this one, where it is there."""
    number, within = each["number"], folder / CORRECTED / each["number"]
    if not (within / BILLED).exists():
        return [], [f"the lines that correct {number}: the bundle holds nothing of it"]
    billed = verify_bundle(within / BILLED, authority_pem)
    original = parse_json(read_file(within / BILLED / INVOICE), within / BILLED / INVOICE)
    agreed = agreed_on(original)
    if original["number"] != number:
        raise _wrong(within / BILLED, "number", original["number"], number)
    if not is_whole(agreed):
        return [], [f"the lines that correct {number}: its contract charges for other meters, or spend"]
    if agreed.contract.gap_policy != "not-billed":
        return [], [f"the lines that correct {number}: the gaps of its rows as they are now are not in the bundle"]
    counted = [
        original if one == number else _signed(within / COUNTED / one, authority_pem) for one in each["counted"]
    ]
    latest = folder if document["kind"] == CREDIT_NOTE else within / NOW
    rows, stated_digest = load_rows(latest), each["revision_digest"]
    if digest_of(rows) != stated_digest:
        raise InvalidInput.single(str(latest / ROWS), "sha256", digest_of(rows), f"the document's, {stated_digest}")
    now = load_usage(latest, original, rows)
    expected = corrected_lines(
        document, original, counted, rated_again(original, agreed, now, {}), now.revision_digest
    )
    stated = [(at, line) for at, line in enumerate(document["lines"], 1) if line.get("corrects") == number]
    if len(stated) != len(expected):
        raise _wrong(
            folder, f"lines that correct {number}", str(len(stated)), f"{len(expected)}, by rows and contract"
        )
    check_lines(expected, stated, str(folder / INVOICE), f"the rows of {number} as billed and as they are now")
    proved = [f"corrections: {len(stated)} lines from the rows of {number} as billed, and as rated again"]
    return proved, [f"of {number}, which is corrected: {text}" for text in billed.unproved]


def _signed(folder: Path, authority_pem: bytes) -> dict[str, Any]:
    """Another document that counts, with its signature; the folder has its number."""
    encoded, source = read_file(folder / INVOICE), str(folder / SIGNATURE)
    statement = open_signed(read_file(folder / SIGNATURE), authority_pem, source)
    for name, value in (("number", folder.name), ("sha256", sha256(encoded).hexdigest())):
        if statement[name] != value:
            raise InvalidInput.single(source, f"statement.{name}", repr(statement[name]), repr(value))
    document: dict[str, Any] = parse_json(encoded, folder / INVOICE)
    return document


def _recompute(
    document: Mapping[str, Any],
    agreed: AgreedContract,
    usage: UsageMonth,
    folder: Path,
    earlier: Sequence[dict[str, Any]],
) -> tuple[int, list[tuple[int, str]]]:
    """How many lines came out as they stand, and those that need more than rows and contract."""
    lines, meters = document["lines"], load_meters(folder, document, agreed, usage.window)
    if due_periods(agreed.contract, usage.window):
        meters = None  # what a capacity true-up rests on is not in the bundle
    expected = rated_again(document, agreed, usage, meters, earlier)
    stated = [(at + 1, lines[at] if at < len(lines) else None) for at in range(len(expected))]
    again = check_lines(expected, stated, str(folder / INVOICE), "rows and contract")
    left = [(at, line["kind"]) for at, line in enumerate(lines, 1) if at > again and not line.get("corrects")]
    return again, left


def _wrong(folder: Path, where: str, found: str, allowed: str) -> InvalidInput:
    return InvalidInput.single(str(folder / INVOICE), where, found, allowed)
