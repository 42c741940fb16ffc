"""What a document drew from prepaid credits, drawn again from the grants and the documents that drew before it.

`prepaid.json` is signed when the bundle is written: the organization's grants in the document's currency as they
were booked, and the documents that had drawn on them by then, with those that were void again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract
from billing.document import utc_ms, utc_text
from billing.draft import CREDIT_NOTE
from billing.pricing.credits import Draw, Grant, after, draw
from billing.proof.findings import Findings
from billing.proof.loading import load_signed, read_file
from billing.proof.rows import DRAWN, INVOICE, PREPAID
from billing.proof.statement import InvoiceSigner, open_signed
from kernel.errors import InvalidInput
from kernel.money import Currency, Money

SCHEMA = "byoc/invoice-prepaid/1"


@dataclass(frozen=True, slots=True)
class Booked:
    """A grant as it was booked, with the reference of its payment."""

    grant: Grant  # with the whole amount as its balance
    reference: str


def render_prepaid(
    document: Mapping[str, Any],
    encoded: bytes,
    booked: Iterable[Booked],
    drawn: tuple[list[str], list[str]],
    signer: InvoiceSigner,
) -> bytes:
    """`prepaid.json`. `drawn`: the documents that drew before, and those of them that were void by then."""
    grants = [
        {
            "grant": one.grant.grant,
            "reference": one.reference,
            "granted_at": utc_text(one.grant.granted_ms),
            "expires_at": None if one.grant.expires_ms is None else utc_text(one.grant.expires_ms),
            "priority": one.grant.priority,
            "amount": f"{one.grant.balance.amount:f}",
        }
        for one in booked
    ]
    stated = {"grants": grants, "drawn": drawn[0], "void": drawn[1]}
    return signer.sign(_named(document, encoded) | stated)


def check_payment(
    folder: Path, document: Mapping[str, Any], agreed: AgreedContract, authority_pem: bytes, found: Findings
) -> None:
    """Draws again. Raises InvalidInput that names the grant, or the day, that is not as it follows."""
    payment = document["payment"]
    days = date.fromisoformat(payment["due_date"]) - date.fromisoformat(document["issue_date"])
    if days != timedelta(days=agreed.contract.payment_days):
        allowed = f"{agreed.contract.payment_days} days after the day of issue, by the contract"
        raise _wrong(folder, "payment.due_date", payment["due_date"], allowed)
    unit = Currency(document["currency"]["code"], int(document["currency"]["decimals"]))
    gross = Money(Decimal(document["totals"]["gross"]), unit)
    if not (folder / PREPAID).exists() or document["kind"] == CREDIT_NOTE:
        if payment["prepaid"] and document["kind"] != CREDIT_NOTE:
            found.unproved.append(f"payment: the {len(payment['prepaid'])} draws on prepaid credits: no {PREPAID}")
            gross -= _sum(payment["prepaid"], unit)
        _compare(folder, document, (), gross)
        found.proved.append("payment: what is due is the gross amount less the draws stated, on the contract's day")
        return
    source = str(folder / PREPAID)
    statement = open_signed(read_file(folder / PREPAID), authority_pem, source)
    for name, value in _named(document, read_file(folder / INVOICE)).items():
        if statement.get(name) != value:
            raise InvalidInput.single(source, f"statement.{name}", repr(statement.get(name)), repr(value))
    grants = tuple(_grant(one, unit) for one in statement["grants"])
    for number in statement["drawn"]:
        earlier = load_signed(folder / DRAWN / number, authority_pem)
        if number not in statement["void"]:
            draws = (Draw(one["grant"], _money(one["amount"], unit)) for one in earlier["payment"]["prepaid"])
            try:
                grants = after(grants, draws)
            except ValueError as error:
                raise InvalidInput.single(source, "statement.grants", str(error), "what is left of them") from error
    drawn, due = draw(grants, gross, utc_ms(document["issued_at"]))
    _compare(folder, document, drawn, due)
    found.proved.append(
        f"payment: {len(drawn)} draws on {len(grants)} prepaid credits drawn again, "
        f"after those of {len(statement['drawn'])} documents, and what is due"
    )
    named = ", ".join(f"{one['grant']} of {one['amount']} ({one['reference']})" for one in statement["grants"])
    found.yours.append(f"prepaid credits: that you paid for {named}, and for no others: only your bank knows")
    if statement["drawn"]:
        numbers = _list(statement["drawn"])
        found.yours.append(f"prepaid credits: that no other documents drew on them than {numbers}")


def _compare(folder: Path, document: Mapping[str, Any], drawn: tuple[Draw, ...], due: Money) -> None:
    expected = [{"grant": one.grant, "amount": f"{one.amount.amount:f}"} for one in drawn]
    stated, payment = document["payment"]["prepaid"], document["payment"]
    for place in range(max(len(expected), len(stated))) if (folder / PREPAID).exists() else ():
        one, other = (listed[place] if place < len(listed) else None for listed in (stated, expected))
        if one != other:
            where = f"payment.prepaid[{place + 1}]"
            raise _wrong(folder, where, json.dumps(one), f"{json.dumps(other)}, by the grants of {PREPAID}")
    if payment["due"] != f"{due.amount:f}":
        raise _wrong(folder, "payment.due", payment["due"], f"{due.amount:f}, by gross amount and draws")


def _named(document: Mapping[str, Any], encoded: bytes) -> dict[str, Any]:
    return {"schema": SCHEMA, "number": document["number"], "sha256": sha256(encoded).hexdigest()}


def _grant(one: Mapping[str, Any], unit: Currency) -> Grant:
    expires = None if one["expires_at"] is None else utc_ms(one["expires_at"])
    return Grant(one["grant"], utc_ms(one["granted_at"]), expires, one["priority"], _money(one["amount"], unit))


def _sum(draws: Iterable[Mapping[str, str]], unit: Currency) -> Money:
    return sum((_money(one["amount"], unit) for one in draws), Money.zero(unit))


def _money(text: str, unit: Currency) -> Money:
    return Money(Decimal(text), unit)


def _list(numbers: list[str]) -> str:
    return ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _wrong(folder: Path, where: str, found: str, allowed: str) -> InvalidInput:
    return InvalidInput.single(str(folder / INVOICE), where, found, allowed)
