"""What is asked of a contract when it is added, beyond what every stored one is asked for. Pure.

Stored contracts, and those that documents carry, are read for ever: a rule that came later is not theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from billing.contract import Contract
from kernel.errors import Finding


def admission_findings(contract: Contract, meters: Collection[str] | None, source: str) -> Iterator[Finding]:
    """What would never be billed, or only be refused when a month is closed. `meters`: those that can be charged
    for (None: whoever asks does not know).
    """
    if meters is not None:
        yield from _unknown_meters(contract, meters, source)
    yield from _discounts(contract, source)
    yield from _ramps(contract, source)
    notice = contract.renewal.notice_given if contract.renewal else None
    if notice and notice < contract.term.start and contract.renews is None:
        yield Finding(source, "renewal.notice_given", str(notice), _from_start(contract))


def _unknown_meters(contract: Contract, meters: Collection[str], source: str) -> Iterator[Finding]:
    allowed = "a meter of the catalogue: " + ", ".join(sorted(meters))
    for index, charge in enumerate(contract.charges):
        if charge.meter not in meters:
            yield Finding(source, f"charges[{index}].meter", charge.meter, allowed)


def _discounts(contract: Contract, source: str) -> Iterator[Finding]:
    term, seen = contract.term, dict[str, int]()
    for index, discount in enumerate(contract.discounts):
        where, start, end = f"discounts[{index}]", discount.start, discount.end
        if seen.setdefault(discount.discount, index) != index:
            yield Finding(source, f"{where}.discount", f"{discount.discount} again", "each id once")
        if start and (start >= term.end or (start < term.start and contract.renews is None)):
            yield Finding(source, f"{where}.start", str(start), f"{_from_start(contract)}, before {term.end}")
        if end and (end <= term.start or (end > term.end and contract.renewal is None)):
            allowed = f"after {term.start}, the first day of the term, and at latest {term.end}, its end"
            yield Finding(source, f"{where}.end", str(end), allowed)


def _ramps(contract: Contract, source: str) -> Iterator[Finding]:
    """The first step may begin before the term; a renewed contract has older ones, one that renews later ones."""
    term = contract.term
    for index, charge in enumerate(contract.charges):
        for number, step in enumerate(charge.steps[1:], start=1):
            too_late = step.start >= term.end and contract.renewal is None
            too_early = step.start <= term.start and contract.renews is None
            if too_late or too_early:
                allowed = f"after {term.start}, the first day of the term, and before {term.end}, its end"
                yield Finding(source, f"charges[{index}].steps[{number}].start", str(step.start), allowed)


def _from_start(contract: Contract) -> str:
    return f"at earliest {contract.term.start}, the first day of the term"
