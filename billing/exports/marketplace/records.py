"""Whole numbers for each hour, as AWS Marketplace takes them. Pure.

An hour that was sent can't be sent again with another quantity, quantities are integers, and six hours after it
nothing of it is taken (API_marketplace-metering_UsageRecord, API_marketplace-metering_BatchMeterUsage). So an hour
has the floor of its usage and of the fraction that earlier hours left; what became known later, or too late, is a
difference between usage and what was sent, and is billed by invoice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from kernel.errors import InvalidInput
from kernel.window import HOUR_MS

BATCH = 25
LATEST_MS = 6 * HOUR_MS
MARGIN_MS = 5 * 60_000  # for the way there and clocks that differ
MOST = 2_147_483_647
_ACCOUNT = re.compile(r"[0-9]{1,255}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whose usage of which dimension of which product. Raises InvalidInput."""

    product: str
    account: str  # AWS account id of the buyer
    dimension: str

    def __post_init__(self) -> None:
        if not _ACCOUNT.fullmatch(self.account):
            raise InvalidInput.single("marketplace", "account", self.account, "the digits of an AWS account id")
        for name in ("product", "dimension"):
            text = getattr(self, name)
            if not 1 <= len(text) <= 255:
                raise InvalidInput.single("marketplace", name, text, "1 to 255 characters")


@dataclass(frozen=True, slots=True)
class HourQuantity:
    """Exact usage of a sealed hour, in the dimension's unit."""

    hour_ms: int  # its start
    quantity: Fraction


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One hour as it is sent: `exact` is what was known of it then."""

    hour_ms: int
    exact: Fraction
    quantity: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send now, and what can't be sent any more and goes to the invoice."""

    records: tuple[UsageRecord, ...]
    late: tuple[HourQuantity, ...]
    carried: Fraction  # below one unit; left for the next hour


def plan_records(hours: Iterable[HourQuantity], before: Sequence[UsageRecord], now_ms: int) -> Plan:
    """Records for the hours that were not planned before, oldest first. Raises InvalidInput.

    `before` is all that was planned for the subscription, sent or not: it is never planned anew.
    """
    done = {record.hour_ms for record in before}
    carried = sum((record.exact - record.quantity for record in before), Fraction(0))
    records, late = [], []
    for hour in sorted(hours, key=lambda each: each.hour_ms):
        if hour.hour_ms in done:
            continue
        done.add(hour.hour_ms)
        if hour.quantity < 0:
            raise InvalidInput.single("marketplace", "quantity", str(hour.quantity), "not below zero")
        if is_late(hour.hour_ms, now_ms):
            late.append(hour)
            continue
        quantity = floor(carried + hour.quantity)
        if quantity > MOST:
            raise InvalidInput.single("marketplace", "quantity of an hour", str(quantity), f"at most {MOST}")
        records.append(UsageRecord(hour.hour_ms, hour.quantity, quantity))
        carried += hour.quantity - quantity
    return Plan(tuple(records), tuple(late), carried)


def is_late(hour_ms: int, now_ms: int) -> bool:
    """Whether AWS may refuse the hour by the time that it arrives."""
    return now_ms - hour_ms >= LATEST_MS - MARGIN_MS


def batches(records: Sequence[UsageRecord]) -> Iterator[Sequence[UsageRecord]]:
    """At most 25 for each call."""
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]


def left_to_invoice(hours: Iterable[HourQuantity], sent: Iterable[UsageRecord]) -> Fraction:
    """Usage as it is known now, less what was sent of the same hours: late, corrected, and the fraction."""
    known = {hour.hour_ms: hour.quantity for hour in hours}
    gone = sum(record.quantity for record in sent if record.hour_ms in known)
    return sum(known.values(), Fraction(0)) - gone
