"""What a contract or a licence may be, beside the others of its organization. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from billing.contract import Contract
from billing.licence import Licence
from kernel.errors import Finding
from kernel.quantity import render_fraction

# What an amendment may not touch: invoices of the term were computed from it.
_FIXED = (
    "organization",
    "legal_entity.id",
    "legal_entity.time_zone",
    "currency",
    "time_zone",
    "term",
    "price_per_vcpu_year",
    "price",
    "on_demand",
    "overage_basis",
    "gap_policy",
    "gap_hours",
)


def contract_findings(
    contract: Contract, others: Iterable[Contract], invoiced_until_ms: int, source: str
) -> Iterator[Finding]:
    """Findings of a contract against the organization's `others`, its own earlier version among them.

    `invoiced_until_ms` is the end of the last period of this contract with a final invoice (0: none).
    """
    for other in others:
        if other.contract == contract.contract:
            yield from _amendment(other, contract, invoiced_until_ms, source)
        elif other.window.intersection(contract.window):
            found = f"{contract.term.start} to {contract.term.end}"
            allowed = f"no overlap with contract {other.contract}, {other.term.start} to {other.term.end}"
            yield Finding(source, "term", found, allowed)


def _amendment(before: Contract, after: Contract, invoiced_until_ms: int, source: str) -> Iterator[Finding]:
    for path in _FIXED:
        old, new = _at(before, path), _at(after, path)
        if old != new:
            yield Finding(source, path, str(new), f"{old}, as in version {before.version}: it holds for the term")
    kept = after.commitment[: len(before.commitment)]
    if kept != before.commitment:
        allowed = f"the steps of version {before.version} unchanged, and later ones after them"
        yield Finding(source, "commitment", "a changed or missing step", allowed)
    for at_ms, _ in after.timeline.points:
        if at_ms < invoiced_until_ms and after.timeline.at(at_ms) != before.timeline.at(at_ms):
            yield Finding(source, "commitment", "a step in a period with a final invoice", "a later date")
            return


def licence_findings(
    licence: Licence, others: Iterable[Licence], contract: Contract | None, source: str
) -> Iterator[Finding]:
    """Findings of a licence against the organization's `others` and the contract that it names."""
    if contract is None or contract.organization != licence.organization:
        allowed = f"a stored contract of organization {licence.organization}"
        yield Finding(source, "contract", licence.contract, allowed)
    elif not contract.on_demand:
        yield from _beyond_commitment(licence, contract, source)
    for other in others:
        if other.licence == licence.licence:
            if other.organization != licence.organization:
                yield Finding(source, "organization", licence.organization, f"{other.organization}, as before")
        elif other.window.intersection(licence.window):
            found = f"{licence.valid.start} to {licence.valid.end}"
            allowed = f"no overlap with licence {other.licence}, {other.valid.start} to {other.valid.end}"
            yield Finding(source, "valid", found, allowed)


def _beyond_commitment(licence: Licence, contract: Contract, source: str) -> Iterator[Finding]:
    """Without on-demand, what the licence gives above the commitment would be used and never billed."""
    excess = (licence.timeline - contract.timeline).positive_part()
    if excess.points:
        allowed = f"at most the commitment of contract {contract.contract}, which has no on-demand, at any time"
        most = render_fraction(Fraction(max(value for _, value in excess.points), 1000), 3)
        yield Finding(source, "capacity", f"{most} vCPU more than that", allowed)


def _at(contract: Contract, path: str) -> object:
    value: object = contract
    for name in path.split("."):
        value = getattr(value, name)
    return value
