"""What the contracts of an organization say that AWS Marketplace is told now: sealed hours of the last six."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from billing.agreed import AgreedContract
from billing.charges import Charge, ChargePiece
from billing.draft import needed_meters
from billing.marketplace.records import LATEST_MS, HourUsage, PieceUsage
from billing.marketplace.terms import Subscription
from kernel.clock import from_ms
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, Window, hour_of, month, month_name
from metering.usage.model import MeterRequest, MeterUsage, UsageReader


@dataclass(frozen=True, slots=True)
class Sold:
    """A part of a month in which a charge has one price, and so one line."""

    agreed: AgreedContract
    month: str
    piece: ChargePiece

    @property
    def charge(self) -> Charge:
        return self.piece.charge


def subscriptions(contracts: Iterable[AgreedContract]) -> dict[Subscription, list[tuple[str, str]]]:
    """Whatever AWS Marketplace bills of some contracts, and of which contract and charge it is."""
    found: dict[Subscription, list[tuple[str, str]]] = {}
    for agreed in contracts:
        for charge in agreed.contract.charges:
            if charge.marketplace is not None:
                found.setdefault(charge.marketplace, []).append((agreed.contract.contract, charge.charge))
    return found


def usage_to_tell(
    contracts: Iterable[AgreedContract], usage: UsageReader, now_ms: int
) -> dict[Subscription, list[HourUsage]]:
    """Every subscription with its hours that are over and sealed. Blocks. Raises InvalidInput."""
    end_ms = hour_of(now_ms).start_ms
    reach = Window(end_ms - LATEST_MS, end_ms)
    sold: dict[Subscription, list[Sold]] = {}
    for agreed in contracts:
        for each in _sold(agreed, reach):
            if each.charge.marketplace is not None:
                sold.setdefault(each.charge.marketplace, []).append(each)
    return {subscription: list(_hours(each, usage, reach)) for subscription, each in sold.items()}


def _sold(agreed: AgreedContract, reach: Window) -> Iterator[Sold]:
    zone = agreed.contract.time_zone
    for name in dict.fromkeys(month_name(from_ms(at), zone) for at in (reach.start_ms, reach.end_ms - 1)):
        period = month(name, zone).intersection(agreed.contract.window)
        for piece in needed_meters(agreed, period) if period else ():
            if piece.window.intersection(reach):
                yield Sold(agreed, name, piece)


def _hours(sold: Iterable[Sold], usage: UsageReader, reach: Window) -> Iterator[HourUsage]:
    """Hours all of whose pieces are sealed. An hour is one record, of one or more lines."""
    ordered = sorted(sold, key=lambda one: one.piece.window.start_ms)
    for start_ms in range(reach.start_ms, reach.end_ms, HOUR_MS):
        hour = Window(start_ms, start_ms + HOUR_MS)
        inside = [(one, part) for one in ordered if (part := one.piece.window.intersection(hour))]
        found = [(one, part, _measured(one, part, usage)) for one, part in inside]
        if found and all(each.sealed for _, _, each in found):
            pieces = (
                PieceUsage(
                    contract=one.agreed.contract.contract,
                    charge=one.charge.charge,
                    month=one.month,
                    line=one.piece.window,
                    window=part,
                    exact=sum((each.quantity for each in measured.parts), Fraction(0)),
                )
                for one, part, measured in found
            )
            yield HourUsage(start_ms, tuple(pieces))


def _measured(sold: Sold, window: Window, usage: UsageReader) -> MeterUsage:
    contract = sold.agreed.contract
    owner = OrganizationId(contract.organization)
    [found] = usage.metered([MeterRequest(owner, sold.charge.meter, window, None, contract.gap_rule)])
    if any(part.quantity and not part.hourly for part in found.parts):
        source, allowed = f"contract {contract.contract}", "one whose hours add up: a sum or an integral"
        raise InvalidInput.single(source, f"meter of charge {sold.charge.charge}", found.meter, allowed)
    return found
