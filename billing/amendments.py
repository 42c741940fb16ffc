"""What a contract or a licence may be, beside the others of its organization. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from billing.contract import Contract
from billing.licence import Licence
from billing.marketplace.terms import moved_findings, shared_findings
from billing.pricing.spend import commitment_period
from kernel.errors import Finding
from kernel.quantity import render_fraction
from kernel.steps import StepFunction

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
    "capacity_true_up",
    "trial",
    "renews",
)


def contract_findings(
    contract: Contract, others: Iterable[Contract], invoiced_until_ms: int, source: str
) -> Iterator[Finding]:
    """Findings of a contract against the organization's `others`, its own earlier version among them.

    `invoiced_until_ms` is the end of the last period of this contract with a final invoice (0: none).
    """
    others = tuple(others)
    before = next((other for other in others if other.contract == contract.contract), None)
    if before is None or before.spend_commitment is None:
        yield from _whole_months(contract, source)
    for other in others:
        if other.contract == contract.contract:
            yield from _amendment(other, contract, invoiced_until_ms, source)
        elif other.window.intersection(contract.window):
            yield from _overlap(contract, other, source)


def _whole_months(contract: Contract, source: str) -> Iterator[Finding]:
    """The periods of a spend commitment end with the month of an invoice, or what is unspent would never be due."""
    term, commitment = contract.term, contract.spend_commitment
    if commitment is None or term.start.day == 1:
        return
    if commitment_period(commitment, term.start, term.start)[1] < term.end:  # a shorter term is one period
        allowed = (
            "the first day of a month with a spend_commitment, which is trued up when a month ends; "
            "the days before it may be a contract of their own"
        )
        yield Finding(source, "term.start", str(contract.term.start), allowed)


def _overlap(contract: Contract, other: Contract, source: str) -> Iterator[Finding]:
    """Two contracts at once may bill nothing twice: one of them has the vCPU, and each meter is of one alone."""
    if contract.bills_capacity and other.bills_capacity:
        allowed = (
            f"no overlap with contract {other.contract}, {other.term.start} to {other.term.end}: both would bill "
            f"the same vCPU. More capacity in its term is an amendment, `version: {other.version + 1}` of it with "
            "a later step of `commitment`, and a licence that `adds_to` the first. A contract beside it for other "
            "meters has `vcpu: 0` and `on_demand: false`"
        )
        yield Finding(source, "term", f"{contract.term.start} to {contract.term.end}", allowed)
    theirs = {charge.meter: charge.charge for charge in other.charges}
    for index, charge in enumerate(contract.charges):
        if charge.meter in theirs:
            allowed = f"a meter that contract {other.contract} does not charge; {theirs[charge.meter]} of it does"
            yield Finding(source, f"charges[{index}].meter", charge.meter, allowed)
    yield from shared_findings(contract.charges, other.charges, other.contract, source)


def _amendment(before: Contract, after: Contract, invoiced_until_ms: int, source: str) -> Iterator[Finding]:
    for path in _FIXED:
        old, new = _at(before, path), _at(after, path)
        if old != new:
            yield Finding(source, path, str(new), f"{old}, as in version {before.version}: it holds for the term")
    yield from moved_findings(before.charges, after.charges, source)
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
    others = tuple(others)
    before = [other for other in others if other.licence == licence.licence]
    beside = [other for other in others if other.licence != licence.licence]
    if contract is not None and not contract.on_demand:
        together = [other for other in beside if other.contract == contract.contract]
        yield from _beyond_commitment([licence, *together], contract, source)
    for other in before:
        if other.organization != licence.organization:
            yield Finding(source, "organization", licence.organization, f"{other.organization}, as before")
    if licence.adds_to is not None:
        yield from _addition(licence, beside, source)
    for other in beside:
        if other.window.intersection(licence.window) and not _stack(licence, other):
            found = f"{licence.valid.start} to {licence.valid.end}"
            allowed = (
                f"no overlap with licence {other.licence}, {other.valid.start} to {other.valid.end}, unless one of "
                "the two has `stacks: true` or adds to the other"
            )
            yield Finding(source, "valid", found, allowed)


def _stack(licence: Licence, other: Licence) -> bool:
    """Whether both may be valid at once."""
    return (
        licence.stacks
        or other.stacks
        or licence.adds_to == other.licence
        or other.adds_to == licence.licence
        or (licence.adds_to is not None and licence.adds_to == other.adds_to)
    )


def _addition(licence: Licence, beside: Iterable[Licence], source: str) -> Iterator[Finding]:
    """An addition is co-termed: it begins in the validity of what it adds to, and ends with it."""
    main = next((other for other in beside if other.licence == licence.adds_to), None)
    if main is None or main.organization != licence.organization or main.adds_to is not None:
        allowed = f"a stored licence of organization {licence.organization} that adds to no other"
        yield Finding(source, "adds_to", str(licence.adds_to), allowed)
        return
    if licence.contract != main.contract:
        yield Finding(source, "contract", licence.contract, f"{main.contract}, as licence {main.licence}")
    if licence.window.end_ms != main.window.end_ms:
        allowed = f"{main.valid.end} in {main.time_zone}, as licence {main.licence}"
        yield Finding(source, "valid.end", str(licence.valid.end), allowed)
    if licence.window.start_ms < main.window.start_ms:
        allowed = f"{main.valid.start} or later, as licence {main.licence}"
        yield Finding(source, "valid.start", str(licence.valid.start), allowed)


def _beyond_commitment(licences: Sequence[Licence], contract: Contract, source: str) -> Iterator[Finding]:
    """Without on-demand, what licences give together above the commitment would be used and never billed."""
    given = StepFunction.sum_of(licence.timeline for licence in licences)
    excess = (given - contract.timeline).positive_part()
    if excess.points:
        allowed = f"at most the commitment of contract {contract.contract}, which has no on-demand, at any time"
        most = render_fraction(Fraction(max(value for _, value in excess.points), 1000), 3)
        yield Finding(source, "capacity", f"{most} vCPU more than that", allowed)


def _at(contract: Contract, path: str) -> object:
    value: object = contract
    for name in path.split("."):
        value = getattr(value, name)
    return value
