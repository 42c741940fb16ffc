"""What was issued, as it stands now, and the months that have no invoice yet: as a table, or as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from billing.contract import Contract
from billing.life import Phase, phase_of
from billing.standing import Standing
from kernel.clock import from_ms
from kernel.window import month, month_name

_COLUMNS = ("number", "organization", "kind", "period", "state", "gross", "open", "due")
_AMOUNTS = frozenset({"gross", "open"})


@dataclass(frozen=True, slots=True)
class Unbilled:
    """A month of a contract without an invoice that stands."""

    contract: Contract
    month: str
    phase: Phase


def unbilled_months(contract: Contract, billed: Collection[str], now_ms: int) -> Iterator[Unbilled]:
    """The months of a contract's term that have begun and are not among those `billed`, first to last."""
    last_ms = min(now_ms, contract.window.end_ms - 1)
    at_ms = contract.window.start_ms
    while at_ms <= last_ms:
        name = month_name(from_ms(at_ms), contract.time_zone)
        whole = month(name, contract.time_zone)
        period = whole.intersection(contract.window)
        if period and name not in billed:
            yield Unbilled(contract, name, phase_of(period, contract.grace_hours, now_ms))
        at_ms = whole.end_ms


def render_list(documents: Sequence[Standing], months: Sequence[Unbilled]) -> Iterator[str]:
    """A table: documents in order of their series, then the months; amounts to the right."""
    rows = [*map(_document_row, documents), *map(_month_row, months)]
    widths = {name: max([len(name), *(len(row[name]) for row in rows)]) for name in _COLUMNS}
    for row in [{name: name for name in _COLUMNS}, *rows] if rows else []:
        cells = (
            f"{row[name]:>{widths[name]}}" if name in _AMOUNTS else f"{row[name]:<{widths[name]}}"
            for name in _COLUMNS
        )
        yield "  ".join(cells).rstrip()


def list_json(documents: Sequence[Standing], months: Sequence[Unbilled]) -> str:
    """`documents` and `months` of one object. Amounts are decimal strings, dates ISO 8601."""
    content = {"documents": [_document(one) for one in documents], "months": [_month(one) for one in months]}
    return json.dumps(content, indent=2, ensure_ascii=False)


def _document_row(one: Standing) -> dict[str, str]:
    invoice = one.invoice
    return {
        "number": invoice.number,
        "organization": invoice.organization,
        "kind": invoice.kind,
        "period": invoice.period,
        "state": one.shown_state,
        "gross": f"{invoice.gross} {invoice.currency}",
        "open": f"{one.open.amount:f}",
        "due": one.due.isoformat() if one.due else "-",
    }


def _month_row(one: Unbilled) -> dict[str, str]:
    named = {"organization": one.contract.organization, "kind": "usage", "period": one.month}
    return {"number": "-", **named, "state": one.phase.value, "gross": "-", "open": "-", "due": "-"}


def _document(one: Standing) -> dict[str, str | None]:
    invoice = one.invoice
    return {
        "number": invoice.number,
        "organization": invoice.organization,
        "contract": invoice.contract,
        "kind": invoice.kind,
        "period": invoice.period,
        "state": one.shown_state,
        "gross": invoice.gross,
        "credited": f"{one.credited.amount:f}",
        "open": f"{one.open.amount:f}",
        "currency": invoice.currency,
        "issue_date": invoice.document["issue_date"],
        "due_date": one.due.isoformat() if one.due else None,
        "sha256": invoice.sha256,
    }


def _month(one: Unbilled) -> dict[str, str]:
    contract = one.contract
    return {
        "organization": contract.organization,
        "contract": contract.contract,
        "month": one.month,
        "state": one.phase.value,
    }
