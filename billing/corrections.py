"""Late usage after a final invoice: the period is rated again with the prices of then, and the difference billed.

The difference of a period keeps its original service period and names the invoice that it corrects. Together it is
added to the next invoice when it is positive, and is a credit note when it is negative: volume tiers can make more
usage cheaper, and nothing is clamped. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.basis import Basis
from billing.document import utc_ms
from billing.pricing import PricedPart
from billing.rating.line import Derivation, Line
from billing.tax import TaxRule
from kernel.errors import InvalidInput
from kernel.money import Currency, Money, total
from kernel.window import Window

CORRECTION, CREDIT = "correction", "credit"  # prefixes of kinds of lines: late usage, and what a person credited
THRESHOLD_CREDIT = "threshold-credit"
_NOT_USAGE = (THRESHOLD_CREDIT, f"{CREDIT}:")  # a goodwill credit stays one when usage is rated again
LineKey = tuple[str, str, int]  # kind, group, start of the service period


@dataclass(frozen=True, slots=True)
class Correction:
    """What later usage changed of one invoice's period."""

    number: str  # of the invoice that it corrects
    period_name: str
    revision_digest: str  # of the usage that was rated now
    counted: tuple[str, ...]  # the documents whose lines count as billed, in their order
    lines: tuple[Line, ...]
    basis: Basis | None = None  # what it was rated from

    @property
    def net(self) -> Money:
        return total((line.amount for line in self.lines), self.lines[0].amount.currency)


@dataclass(frozen=True, slots=True)
class Billed:
    """What was billed of one line's service, by all documents so far."""

    description: str
    period: Window
    amount: Money
    tax: TaxRule | None


def billed_of(number: str, documents: Iterable[Mapping[str, Any]], unit: Currency) -> dict[LineKey, Billed]:
    """What `documents`, none of them void, billed of the period of invoice `number`: its own and corrections."""
    found: dict[LineKey, Billed] = {}
    for document in documents:
        rules = {(tax["category"], tax["rate"]): tax["name"] for tax in document["taxes"]}
        for line in document["lines"]:
            if line["informational"] or line["kind"].startswith(_NOT_USAGE):
                continue
            is_own = document["number"] == number and line.get("corrects") is None
            if not is_own and line.get("corrects") != number:
                continue
            period = Window(utc_ms(line["period"]["start"]), utc_ms(line["period"]["end"]))
            key = (line["kind"].removeprefix(f"{CORRECTION}:"), line.get("group", ""), period.start_ms)
            amount = Money(Decimal(line["amount"]), unit)
            before = found.get(key)
            found[key] = Billed(
                description=before.description if before else line["description"],
                period=period,
                amount=before.amount + amount if before else amount,
                tax=_rule(line["tax"], rules),
            )
    return found


def left_to_credit(number: str, documents: Iterable[Mapping[str, Any]], unit: Currency) -> Money:
    """The net amount that `documents`, none of them void, leave of an invoice and its corrections."""
    lines = (
        line
        for document in documents
        for line in document["lines"]
        if line.get("corrects") == number or (document["number"] == number and line.get("corrects") is None)
    )
    return total((Money(Decimal(line["amount"]), unit) for line in lines), unit)


def correct(
    original: Mapping[str, Any], documents: Iterable[Mapping[str, Any]], rated: Iterable[Line], digest: str
) -> Correction | None:
    """The difference between `rated`, the period as it is now, and what `documents` billed of it; None for none."""
    rated = tuple(rated)
    unit = rated[0].amount.currency
    documents = tuple(documents)
    billed = billed_of(original["number"], documents, unit)
    lines = [_difference(line, billed.pop(_key(line), None)) for line in rated if not line.informational]
    lines += [_gone(key, gone, unit) for key, gone in billed.items()]
    changed = tuple(replace(line, corrects=original["number"]) for line in lines if line.amount.amount)
    if not changed:
        return None
    counted = tuple(document["number"] for document in documents)
    return Correction(original["number"], original["period"]["name"], digest, counted, changed)


def _key(line: Line) -> LineKey:
    return line.kind, line.group, line.period.start_ms


def _difference(line: Line, billed: Billed | None) -> Line:
    before = billed.amount if billed else Money.zero(line.amount.currency)
    return replace(
        line,
        kind=f"{CORRECTION}:{line.kind}",
        description=f"Correction: {line.description}"[:400],
        amount=line.amount - before,
        derivation=_derivation(line.amount, before, line.derivation),
    )


def _gone(key: LineKey, billed: Billed, unit: Currency) -> Line:
    nothing = Money.zero(unit)
    empty = Derivation(Fraction(0), "unit", None, Fraction(0), Fraction(0))
    return Line(
        kind=f"{CORRECTION}:{key[0]}",
        description=f"Correction: {billed.description}"[:400],
        period=billed.period,
        amount=nothing - billed.amount,
        derivation=_derivation(nothing, billed.amount, empty),
        tax=billed.tax,
        group=key[1],
    )


def _derivation(now: Money, before: Money, rated: Derivation) -> Derivation:
    """Rated as now, less what was billed: two amounts that were rounded, so the difference is exact."""
    parts = (
        PricedPart("rated again", Fraction(1), "sum", Fraction(now.amount), "with the prices of the invoice"),
        PricedPart("billed before", Fraction(1), "sum", -Fraction(before.amount), "by the documents counted"),
    )
    exact = Fraction(now.amount) - Fraction(before.amount)
    return replace(rated, rate=None, unrounded=exact, rounding=Fraction(0), parts=parts)


def _rule(tax: Mapping[str, str] | None, names: Mapping[tuple[str, str], str]) -> TaxRule | None:
    if tax is None:
        return None
    name = names.get((tax["category"], tax["rate"]), "VAT")
    return TaxRule.model_validate({"name": name, "category": tax["category"], "rate": tax["rate"]})


def limited(correction: Correction, creditable: Money) -> Correction | None:
    """The same with at most `creditable` given back: a person may have credited a part before. None: all of it."""
    over = -(correction.net + creditable)
    nothing = Money.zero(over.currency)
    if not nothing < over:
        return correction
    if not nothing < creditable:
        return None
    last = correction.lines[-1]
    parts = (PricedPart("credited before", Fraction(1), "sum", Fraction(over.amount), "by earlier credit notes"),)
    derivation = Derivation(Fraction(1), "sum", None, Fraction(over.amount), Fraction(0), parts=parts)
    line = replace(
        last,
        kind=f"{CORRECTION}:limit",
        description="Credited before",
        amount=over,
        derivation=derivation,
        group="",
    )
    return replace(correction, lines=(*correction.lines, line))


def corrected(
    document: Mapping[str, Any],
    original: Mapping[str, Any],
    counted: Sequence[Mapping[str, Any]],
    rated: Iterable[Line],
    digest: str,
) -> Correction | None:
    """What `document` corrects of `original`, made again without its basis: `counted` had billed its period before.

    A credit note gives back no more than was left.
    """
    found = correct(original, counted, rated, digest)
    if found is not None and document.get("credits") == original["number"]:
        unit = found.net.currency
        found = limited(found, left_to_credit(original["number"], counted, unit))
    return found


def billed_lines(document: Mapping[str, Any], amounts: Mapping[int, Money], source: str) -> Iterator[Line]:
    """Lines that give back `amounts`, positive, of the lines of an issued document, by index from 0.

    Raises InvalidInput for a line that is not there, or an amount that is not positive or more than the line's.
    """
    rules = {(tax["category"], tax["rate"]): tax["name"] for tax in document["taxes"]}
    for index, amount in sorted(amounts.items()):
        lines = document["lines"]
        if not 0 <= index < len(lines) or lines[index]["informational"]:
            raise InvalidInput.single(source, "line", str(index + 1), f"a line with an amount, 1 to {len(lines)}")
        line = lines[index]
        billed = Money(Decimal(line["amount"]), amount.currency)
        nothing = Money.zero(amount.currency)
        if not nothing < amount or billed < amount:
            raise InvalidInput.single(source, f"line {index + 1}", str(amount), f"more than 0, at most {billed}")
        part = PricedPart("credited", Fraction(1), "sum", -Fraction(amount.amount), f"of line {index + 1}")
        yield Line(
            kind=line["kind"],
            description=f"Credit: {line['description']}"[:400],
            period=Window(utc_ms(line["period"]["start"]), utc_ms(line["period"]["end"])),
            amount=-amount,
            derivation=Derivation(Fraction(1), "sum", None, -Fraction(amount.amount), Fraction(0), parts=(part,)),
            tax=_rule(line["tax"], rules),
            group=line.get("group", ""),
        )
