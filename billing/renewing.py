"""The contract and licences of the term after this one, as texts that are stored like any other. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import yaml

from billing.contract import Contract
from billing.fields import midnight_ms
from billing.licence import Licence
from billing.pricing.spend import months_after
from billing.terms import Renewal
from kernel.errors import Conflict

_PLACES = Decimal("0.00000001")
_NUMBERED = re.compile(r"(.+)-r([0-9]+)")


def renewed_contract(contract: Contract, text: str, now_ms: int) -> tuple[str, str]:
    """Id and text of the next term's contract, from the newest version's `text`.

    The same names, prices and conditions; the last commitment; the committed price risen by the uplift, half-up to
    eight places, and the prices of charges by exactly it. Raises Conflict: it does not renew, notice was given, or
    notice may still be given.
    """
    renewal, end = contract.renewal, contract.term.end
    if renewal is None:
        raise Conflict(f"contract {contract.contract} has no `renewal`: it ends on {end}")
    if renewal.notice_given is not None:
        raise Conflict(f"contract {contract.contract} ends on {end}: notice was given on {renewal.notice_given}")
    latest = renewal.last_day_of_notice(end)
    if now_ms < _notice_ends_ms(contract, renewal):
        raise Conflict(f"contract {contract.contract}: notice may be given until {latest}; renew it after that")
    following = next_id(contract.contract)
    content: dict[str, Any] = yaml.safe_load(text)
    content |= {
        "contract": following,
        "version": 1,
        "renews": contract.contract,
        "term": {"start": end, "end": months_after(end, 12 * renewal.years)},
        "commitment": [{"start": end, "vcpu": _vcpu(contract.commitment[-1].milli_vcpu)}],
    }
    if renewal.uplift_percent is not None and contract.price_per_vcpu_year is not None:
        risen = contract.price_per_vcpu_year * (100 + renewal.uplift_percent) / 100
        content["price_per_vcpu_year"] = _price(risen)
    if renewal.uplift_percent:
        for charge in content.get("charges", ()):
            _raise_prices(charge["steps"], end, f"{renewal.uplift_percent:f}")
    kept = [each for each in content.get("discounts", ()) if _is_after(each, end)]
    content = {name: value for name, value in content.items() if name != "discounts"}
    if kept:
        content["discounts"] = kept
    return following, _text(content)


def is_renewal_due(contract: Contract, now_ms: int) -> bool:
    """Whether it goes on after its term and notice can't be given any more."""
    renewal = contract.renewal
    if renewal is None or renewal.notice_given is not None:
        return False
    return now_ms >= _notice_ends_ms(contract, renewal)


def _notice_ends_ms(contract: Contract, renewal: Renewal) -> int:
    """The end of the last day of notice, which is one on which it may be given."""
    return midnight_ms(renewal.last_day_of_notice(contract.term.end) + timedelta(days=1), contract.time_zone)


def renewed_licences(contract: Contract, licences: Iterable[Licence], end: date) -> Iterator[tuple[str, str]]:
    """Ids and texts of the licences that go on with it: those of the contract that end with its term.

    `end` is the end of the next term. Additions become part of what they add to.
    """
    term_end_ms = contract.window.end_ms
    ending = [one for one in licences if one.contract == contract.contract and one.window.end_ms == term_end_ms]
    for licence in ending:
        if licence.adds_to is not None:
            continue
        added = [one for one in ending if one.adds_to == licence.licence]
        capacity = sum(one.capacity[-1].milli_vcpu for one in (licence, *added))
        following = next_id(licence.licence)
        content = {
            "licence": following,
            "organization": licence.organization,
            "contract": next_id(contract.contract),
            "time_zone": licence.time_zone,
            "valid": {"start": licence.valid.end, "end": end},
            "capacity": [{"start": licence.valid.end, "vcpu": _vcpu(capacity)}],
            "stacks": licence.stacks,
            "grace_days": licence.grace_days,
        }
        yield following, _text(content)


def next_id(identifier: str) -> str:
    """`acme-r2` after `acme`, `acme-r3` after that: the n-th term."""
    found = _NUMBERED.fullmatch(identifier)
    return f"{found.group(1)}-r{int(found.group(2)) + 1}" if found else f"{identifier}-r2"


def _raise_prices(steps: list[dict[str, Any]], start: date, percent: str) -> None:
    """A price that was agreed for a day of the new term stays as agreed; the one before it rises."""
    reached = [step for step in steps if date.fromisoformat(str(step["start"])) < start]
    has_own = any(date.fromisoformat(str(step["start"])) == start for step in steps)
    if reached and not has_own:
        reached[-1]["uplifts"] = [*reached[-1].get("uplifts", ()), percent]


def _is_after(discount: Mapping[str, Any], day: date) -> bool:
    end = discount.get("end")
    return end is None or date.fromisoformat(str(end)) > day


def _vcpu(milli_vcpu: int) -> int | str:
    whole, rest = divmod(milli_vcpu, 1000)
    return whole if not rest else f"{Decimal(milli_vcpu) / 1000:f}"


def _price(amount: Decimal) -> str:
    text = f"{amount.quantize(_PLACES, ROUND_HALF_UP):f}"
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """A day that stands twice is written twice: a document has no aliases."""
        return True


def _text(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=_Plain, sort_keys=False, allow_unicode=True)
