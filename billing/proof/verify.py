"""Checks a bundle against the authority's certificate and nothing else: no vendor, no database, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract, agreed_on
from billing.document import render_line, utc_ms
from billing.draft import USAGE
from billing.proof.checkpoint import CHECKPOINTS, check_proof
from billing.proof.held import Held, prove_held
from billing.proof.rows import INVOICE, ROWS, SIGNATURE, STEPS, parse_rows
from billing.proof.statement import check_statement
from billing.rating import rate
from billing.rating.commitment import commitment_information
from billing.rating.line import Line, RatingInput
from billing.rating.overage import overage
from kernel.errors import InvalidInput, truncate
from kernel.money import Currency, Money
from kernel.steps import StepFunction
from kernel.window import Window, hours_in
from metering.usage.model import UsageMonth, canonical_line, digest_of, tree_root


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
    encoded = _read(folder / INVOICE)
    document: dict[str, Any] = _json(encoded, folder / INVOICE)
    has_usage = isinstance(document, dict) and document.get("usage") is not None
    files = {STEPS: _read(folder / STEPS)} if has_usage else {}
    try:
        signature, source = _read(folder / SIGNATURE), str(folder / SIGNATURE)
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
            again, others = _recompute(document, agreed, usage, folder)
            proved.append(f"amounts: {again} of {again + len(others)} lines recomputed from rows and contract")
            unproved += [f"the quantity of line {position}, {kind}" for position, kind in others]
        else:
            unproved.append(f"the lines of a {document['kind']} document from its contract")
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        found, allowed = truncate(repr(error)), "a document of schema byoc/invoice/1"
        raise InvalidInput.single(str(folder / INVOICE), "document", found, allowed) from error
    return Verified(document["number"], tuple(proved), tuple(unproved))


def _checkpoints(folder: Path, statement: Mapping[str, Any], authority_pem: bytes, kept: bytes | None) -> list[str]:
    path = folder / CHECKPOINTS
    if path.exists():
        return check_proof(_read(path), statement, authority_pem, kept, str(path))
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
    stated, period = document["usage"], _period(document)
    rows = parse_rows(_read(folder / ROWS), str(folder / ROWS))
    root = tree_root(canonical_line(row) for row in rows).hex()
    if root != stated["merkle_root"]:
        raise InvalidInput.single(
            str(folder / ROWS), "Merkle root", root, f"the invoice's, {stated['merkle_root']}"
        )
    step = StepFunction(tuple((at_ms, level) for at_ms, level in _json(_read(folder / STEPS), folder / STEPS)))
    organization = document["customer"]["organization"]
    sums: dict[int, int] = {}
    for number, row in enumerate(rows, 1):
        if row.organization != organization or row.hour.intersection(period) != row.hour:
            allowed = f"{organization}, within the period"
            raise InvalidInput.single(str(folder / ROWS), f"line {number}", str(row.hour), allowed)
        sums[row.hour.start_ms] = sums.get(row.hour.start_ms, 0) + row.milli_vcpu_ms
    for hour in hours_in(period):
        if step.integral(hour) != sums.get(hour.start_ms, 0):
            found, allowed = str(step.integral(hour)), f"the sum of its rows, {sums.get(hour.start_ms, 0)}"
            raise InvalidInput.single(str(folder / STEPS), f"hour of {hour.start}", found, allowed)
    observed, missing = sum(row.observed_ms for row in rows), sum(row.missing_ms for row in rows)
    return UsageMonth(
        rows[0].organization if rows else organization,
        period,
        rows,
        step,
        observed,
        missing,
        digest_of(rows),
        sealed=True,
    )


def _recompute(
    document: Mapping[str, Any], agreed: AgreedContract, usage: UsageMonth, folder: Path
) -> tuple[int, list[tuple[int, str]]]:
    """How many lines came out as they stand, and those that need more than the bundle holds."""
    lines = document["lines"]
    expected = _rated(document, agreed, usage)
    for position, line in enumerate(expected):
        rendered = json.loads(json.dumps(render_line(line)))
        stated = lines[position] if position < len(lines) else None
        if rendered != stated:
            where, found, allowed = _difference(rendered, stated)
            raise _wrong(folder, f"lines[{position + 1}]{where}", found, f"{allowed}, by rows and contract")
    return len(expected), [(at, line["kind"]) for at, line in enumerate(lines, 1) if at > len(expected)]


def _rated(document: Mapping[str, Any], agreed: AgreedContract, usage: UsageMonth) -> tuple[Line, ...]:
    contract = agreed.contract
    unit = Currency(document["currency"]["code"], int(document["currency"]["decimals"]))
    rated = RatingInput(
        contract=contract,
        price_per_vcpu_year=Fraction(agreed.price_per_vcpu_year),
        currency=unit,
        period=usage.window,
        usage=usage,
        spent_before=Money.zero(unit),
    )
    if contract.charges or contract.spend_commitment:  # these need other meters, or earlier invoices
        return commitment_information(rated), overage(rated)
    return rate(rated)


def _difference(expected: Any, found: Any, where: str = "") -> tuple[str, str, str]:
    """Where two JSON values first differ."""
    for key, inner, other in _pairs(expected, found):
        if inner != other:
            return _difference(inner, other, f"{where}{key}")
    return where, truncate(repr(found)), truncate(repr(expected))


def _pairs(expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        yield from ((f".{key}", expected[key], found[key]) for key in sorted(expected))
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        yield from ((f"[{at}]", one, other) for at, (one, other) in enumerate(zip(expected, found, strict=True), 1))


def _period(document: Mapping[str, Any]) -> Window:
    return Window(utc_ms(document["period"]["start"]), utc_ms(document["period"]["end"]))


def _wrong(folder: Path, where: str, found: str, allowed: str) -> InvalidInput:
    return InvalidInput.single(str(folder / INVOICE), where, found, allowed)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror, "a file of the bundle") from error


def _json(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidInput.single(str(path), "JSON", str(error), "JSON") from error
