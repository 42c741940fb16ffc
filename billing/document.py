"""How an invoice looks as JSON. Amounts, quantities and counts are strings: JSON numbers are floats."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from billing.contract import Contract, LegalEntity, Party
from billing.documents import Snapshot
from billing.gaps import render_gaps
from billing.marketplace.told import Told
from billing.pricing import PricedPart
from billing.rating.fact import Fact
from billing.rating.line import CapacityPeak, Derivation, Line
from billing.spread import usage_by_cluster, usage_by_day
from billing.tax import REVERSE_CHARGE, TaxGroup
from kernel.clock import from_ms, to_ms
from kernel.money import Money
from kernel.quantity import render_ratio
from kernel.window import Window
from metering.usage.model import MeterUsage
from metering.usage.rows import tree_root

if TYPE_CHECKING:
    from billing.corrections import Correction
    from billing.draft import Draft

SCHEMA = "byoc/invoice/1"
SHOWN_PLACES = 10
_SHOWN_SCALE = 10**SHOWN_PLACES


def render_document(draft: Draft) -> dict[str, Any]:
    """The draft as JSON values: status `draft`, number and issue date null."""
    contract = draft.agreed.contract
    return {
        "schema": SCHEMA,
        "kind": draft.kind,
        "status": "draft",
        "number": None,
        "issued_at": None,
        "issue_date": None,
        **({"language": contract.language} if contract.language != "en" else {}),
        "seller": _seller(contract.legal_entity),
        "customer": _party(contract.customer) | {"organization": contract.organization},
        "contract": _contract(draft),
        "currency": {"code": draft.currency.code, "decimals": str(draft.currency.exponent)},
        "period": _window(draft.period) | {"name": draft.period_name, "time_zone": contract.time_zone},
        "lines": [render_line(line) for line in draft.lines],
        "taxes": [_tax(group) for group in draft.taxes],
        "totals": {"net": _amount(draft.net), "tax": _amount(draft.tax), "gross": _amount(draft.gross)},
        "rounding_policy": "each line half-up once to the minor unit; tax once per category and rate; totals exact",
        "usage": _usage(draft),
        "notes": _notes(draft),
        **_references(draft),
    }


@lru_cache(maxsize=4096)  # a document's lines have few windows
def utc_text(moment_ms: int) -> str:
    """A moment as `2026-11-01T00:00:00.000Z`."""
    return from_ms(moment_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_ms(text: str) -> int:
    """The moment of such a text, in milliseconds."""
    return to_ms(datetime.fromisoformat(text))


def fraction_text(value: Fraction) -> dict[str, str]:
    """A fraction exactly (`3/1752`, or `600` when whole) and as a rounded decimal for the eye."""
    numerator, denominator = value.as_integer_ratio()
    if denominator == 1:
        text = str(numerator)
        return {"exact": text, "shown": text}
    text = render_ratio(numerator, denominator, SHOWN_PLACES).rstrip("0").rstrip(".")
    is_exact = _SHOWN_SCALE % denominator == 0  # else its decimals never end, or only after those places
    return {"exact": f"{numerator}/{denominator}", "shown": text if is_exact else f"{text}..."}


def _amount(money: Money) -> str:
    return f"{money.amount:f}"


def _party(party: Party) -> dict[str, Any]:
    country = {"country": party.country} if party.country else {}
    return {"name": party.name, "address": list(party.address), "tax_id": party.tax_id} | country


def _seller(entity: LegalEntity) -> dict[str, Any]:
    logo = {"file": entity.logo.file, "sha256": entity.logo.sha256} if entity.logo else None
    facturx = {"facturx": True} if entity.facturx else {}
    return _party(entity) | {"id": entity.id} | ({"logo": logo} if logo else {}) | facturx


def _window(window: Window) -> dict[str, str]:
    return {"start": utc_text(window.start_ms), "end": utc_text(window.end_ms)}


def _contract(draft: Draft) -> dict[str, Any]:
    agreed = draft.agreed
    book = agreed.price_book
    return {
        "id": agreed.contract.contract,
        "version": str(agreed.contract.version),
        "sha256": agreed.snapshot.sha256,
        "snapshot": agreed.snapshot.text,
        "on_demand": agreed.contract.on_demand,
        "gap_policy": agreed.contract.gap_policy,
        **({"gap_hours": str(agreed.contract.gap_hours)} if _fills_gaps(agreed.contract) else {}),
        "price_per_vcpu_year": f"{agreed.price_per_vcpu_year:f}",
        "price_book": _book(book) if book else None,
        **({"charge_books": [_book(book) for book in agreed.charge_books]} if agreed.charge_books else {}),
    }


def _book(book: Snapshot) -> dict[str, str]:
    return {"sha256": book.sha256, "snapshot": book.text}


def render_line(line: Line) -> dict[str, Any]:
    """One line, as it stands on the document."""
    return {
        "kind": line.kind,
        "description": line.description,
        "informational": line.informational,
        "period": _window(line.period),
        "amount": _amount(line.amount),
        "tax": {"category": line.tax.category, "rate": f"{line.tax.rate:f}"} if line.tax else None,
        "derivation": _derivation(line.derivation),
        "notes": list(line.notes),
        **({"group": line.group} if line.group else {}),
        **({"corrects": line.corrects} if line.corrects else {}),
    }


def _derivation(made: Derivation) -> dict[str, Any]:
    return {
        "quantity": fraction_text(made.quantity) | {"unit": made.unit},
        "rate": fraction_text(made.rate.amount) | {"basis": made.rate.basis} if made.rate else None,
        "unrounded": fraction_text(made.unrounded),
        "rounding": fraction_text(made.rounding),
        "facts": [_fact(fact) for fact in made.facts],
        **({"parts": [_part(part) for part in made.parts]} if made.parts else {}),
        "days": [{"day": day, "quantity": fraction_text(quantity)} for day, quantity in made.days],
    }


def _part(part: PricedPart) -> dict[str, Any]:
    return {
        "label": part.label,
        "quantity": fraction_text(part.quantity) | {"unit": part.unit},
        "rate": fraction_text(part.rate) | {"basis": part.basis},
        "amount": fraction_text(part.amount),
    }


def _fact(fact: Fact) -> dict[str, str]:
    return {"name": fact.name, "label": fact.label, "value": fact.value, "shown": fact.shown}


def _tax(group: TaxGroup) -> dict[str, str]:
    return {
        "name": group.name,
        "category": group.category,
        "rate": f"{group.rate:f}",
        "basis": _amount(group.basis),
        "amount": _amount(group.amount),
    }


def _usage(draft: Draft) -> dict[str, Any] | None:
    usage = draft.usage
    contract = draft.agreed.contract
    if usage is None:
        return None
    return {
        "revision_digest": usage.revision_digest,
        "rows": str(len(usage.rows)),
        "merkle_root": usage.rows.root,
        "observed_ms": str(usage.observed_ms),
        "missing_ms": str(usage.missing_ms),
        **({"gaps": render_gaps(usage.rows)} if _fills_gaps(contract) else {}),
        "sealed": usage.sealed,
        "days": usage_by_day(usage, contract.timeline, draft.period, contract.time_zone),
        "clusters": usage_by_cluster(usage.rows),
        **_rated_from(draft.meters, draft.peaks, draft.marketplace),
    }


def _rated_from(
    meters: Iterable[tuple[str, MeterUsage]], peaks: Iterable[CapacityPeak], marketplace: Iterable[Told]
) -> dict[str, Any]:
    found = {
        "meters": [_meter(charge, measured) for charge, measured in meters],
        "capacity": [_peak(peak) for peak in peaks],
        "marketplace": [_told(told) for told in marketplace],
    }
    return {name: each for name, each in found.items() if each}


def _peak(peak: CapacityPeak) -> dict[str, Any]:
    return {
        **_window(peak.window),
        "revision_digest": peak.revision_digest,
        "steps_sha256": peak.steps_sha256,
        **({} if peak.gaps is None else {"gaps": list(peak.gaps)}),
    }


def _told(told: Told) -> dict[str, str]:
    return {
        "charge": told.charge,
        **told.subscription.model_dump(),
        **_window(told.window),
        "rows": str(len(told.rows)),
        "merkle_root": tree_root(told.leaves).hex(),
    }


def _meter(charge: str, measured: MeterUsage) -> dict[str, str]:
    return {
        "charge": charge,
        "meter": measured.meter,
        "catalogue": measured.catalogue,
        "definition": measured.definition,
        **_window(measured.window),
        "rows": str(len(measured.leaves)),
        "merkle_root": measured.leaves.root,
        "revision_digest": measured.revision_digest,
    }


def _fills_gaps(contract: Contract) -> bool:
    return contract.gap_policy != "not-billed"


def _references(draft: Draft) -> dict[str, Any]:
    """What other documents it changes, if any."""
    found: dict[str, Any] = {}
    if draft.corrections:
        found["corrections"] = [_correction(each) for each in draft.corrections]
    if draft.reference is not None:
        found |= {"credits": draft.reference, "reason": draft.reason}
    return found


def _correction(each: Correction) -> dict[str, Any]:
    found = {
        "number": each.number,
        "period": each.period_name,
        "revision_digest": each.revision_digest,
        "counted": list(each.counted),
        "net": _amount(each.net),
    }
    if each.basis is None:
        return found
    gaps = {} if each.basis.gaps is None else {"gaps": list(each.basis.gaps)}
    return found | gaps | _rated_from(each.basis.meters, each.basis.peaks, each.basis.marketplace)


def _notes(draft: Draft) -> list[str]:
    reverse_charge = any(group.category == "AE" for group in draft.taxes)
    return [REVERSE_CHARGE] if reverse_charge else []
