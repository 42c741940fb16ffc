"""A month under another contract, beside what its own makes of it now and what was billed. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from billing.corrections import CORRECTION, CREDIT, THRESHOLD_CREDIT, billed_of
from billing.draft import Draft
from billing.tax import TaxRule, tax_groups
from kernel.money import Currency, Money, total

TOTALS = ("net", "tax", "gross")
_OF_OTHERS = (CORRECTION, f"{CREDIT}:", THRESHOLD_CREDIT)  # of other months, of persons, of threshold invoices


@dataclass(frozen=True, slots=True)
class Priced:
    """What a month's usage costs: its lines by kind and group, and their totals."""

    lines: Mapping[str, Money]
    totals: Mapping[str, Money]


@dataclass(frozen=True, slots=True)
class Simulation:
    """`billed`: by all documents of the month that stand; None when it has no invoice."""

    billed: Priced | None
    now: Priced
    simulated: Priced

    def rows(self) -> Iterator[tuple[str, list[Money | None]]]:
        """Line or total; billed, now, simulated, and the difference to what was billed, else to now."""
        columns = (self.billed, self.now, self.simulated)
        names = dict.fromkeys(name for column in columns if column for name in column.lines)
        for name in names:
            yield name, _compared([column.lines.get(name) if column else None for column in columns], self)
        for name in TOTALS:
            yield name, _compared([column.totals[name] if column else None for column in columns], self)


def priced_draft(draft: Draft) -> Priced:
    """Of a draft: the month's own lines."""
    lines = ((f"{line.kind} {line.group}", line.amount, line.tax) for line in draft.lines if not line.informational)
    return _priced((line for line in lines if not line[0].startswith(_OF_OTHERS)), draft.currency)


def priced_documents(number: str, documents: Iterable[Mapping[str, Any]], unit: Currency) -> Priced:
    """Of invoice `number` and the later documents that correct it; what a person credited is left out."""
    billed = billed_of(number, documents, unit)
    return _priced(((f"{kind} {group}", one.amount, one.tax) for (kind, group, _), one in billed.items()), unit)


def render_simulation(found: Simulation) -> Iterator[str]:
    """A table, amounts to the right."""
    head = ["", "billed", "now", "simulated", "difference"]
    rows = [head, *([name, *(str(cell) if cell else "-" for cell in cells)] for name, cells in found.rows())]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    for name, *cells in rows:
        amounts = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((f"{name:<{widths[0]}}", *amounts)).rstrip()


def simulation_json(found: Simulation) -> str:
    """A list of objects; amounts are `amount currency`, null where there is none."""
    names = ("billed", "now", "simulated", "difference")
    rows: list[dict[str, str | None]] = []
    for name, cells in found.rows():
        amounts = {key: str(cell) if cell else None for key, cell in zip(names, cells, strict=True)}
        rows.append({"line": name, **amounts})
    return json.dumps(rows, indent=2, ensure_ascii=False)


def _priced(lines: Iterable[tuple[str, Money, TaxRule | None]], unit: Currency) -> Priced:
    lines, amounts = list(lines), dict[str, Money]()
    for name, amount, _ in lines:
        amounts[name.strip()] = amounts.get(name.strip(), Money.zero(unit)) + amount
    net = total(amounts.values(), unit)
    tax = total((group.amount for group in tax_groups(((each, rule) for _, each, rule in lines), unit)), unit)
    return Priced(amounts, {"net": net, "tax": tax, "gross": net + tax})


def _compared(cells: list[Money | None], found: Simulation) -> list[Money | None]:
    """With the difference, where both are of one currency."""
    before, after = cells[0] if found.billed else cells[1], cells[2]
    present = before or after
    if present is None or (before and after and before.currency != after.currency):
        return [*cells, None]
    zero = Money.zero(present.currency)
    return [*cells, (after or zero) - (before or zero)]
