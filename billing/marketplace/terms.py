"""What a contract says of a charge that AWS Marketplace bills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from billing.fields import AwsAccount, AwsDimension, AwsProductCode
from billing.pricing import PriceModel
from billing.pricing.per_unit import PerUnit
from kernel.errors import Finding, InvalidInput
from kernel.settings import Section

if TYPE_CHECKING:
    from billing.charges import Charge
    from billing.contract import Contract

SENDABLE_HOURS = 6  # "Usage records aren't accepted 6 hours or more after an event" (API_BatchMeterUsage)
_LINEAR = (
    "a model of kind per-unit: AWS Marketplace bills every unit at one price, and so does the invoice the rest"
)


class Subscription(Section):
    """Whose usage of which dimension of which product. AWS keeps one record of it for each hour."""

    product: AwsProductCode = Field(description="product code at AWS Marketplace")
    account: AwsAccount = Field(description="AWS account id of the buyer")
    dimension: AwsDimension = Field(description="dimension of the product that is billed by usage")

    def __str__(self) -> str:
        return f"{self.product}/{self.account}/{self.dimension}"


def subscription_of(stated: Mapping[str, str]) -> Subscription:
    """As a document states it."""
    return Subscription(**{name: stated[name] for name in Subscription.model_fields})


def marketplace_findings(contract: Contract, source: str) -> Iterator[Finding]:
    """What can't stand beside charges that AWS Marketplace bills, and what such a charge can't have."""
    sold = [(f"charges[{at}]", one) for at, one in enumerate(contract.charges) if one.marketplace]
    if not sold:
        return
    seen: dict[Subscription, str] = {}
    for where, charge in sold:
        assert charge.marketplace is not None
        if seen.setdefault(charge.marketplace, where) != where:
            allowed = f"each subscription once; {seen[charge.marketplace]} has it"
            yield Finding(source, f"{where}.marketplace", str(charge.marketplace), allowed)
        if charge.group_by is not None:
            allowed = "none: AWS Marketplace is told of all groups together"
            yield Finding(source, f"{where}.group_by", charge.group_by, allowed)
        for number, step in enumerate(charge.steps):
            if step.model is not None and not isinstance(step.model, PerUnit):
                yield Finding(source, f"{where}.steps[{number}].model.kind", step.model.kind, _LINEAR)
    for name in ("spend", "spend_commitment", "threshold"):
        if getattr(contract, name) is not None:
            allowed = f"none beside {sold[0][0]}.marketplace: what AWS bills is no amount of an invoice"
            yield Finding(source, name, "given", allowed)
    if contract.grace_hours < SENDABLE_HOURS:
        allowed = f"at least {SENDABLE_HOURS}: so long AWS Marketplace may still take hours of the month"
        yield Finding(source, "grace_hours", str(contract.grace_hours), allowed)


def check_linear(charge: Charge, model: PriceModel, source: str, where: str) -> None:
    """Of a model that a price book gave. Raises InvalidInput."""
    if charge.marketplace is not None and not isinstance(model, PerUnit):
        raise InvalidInput.single(source, where, model.kind, _LINEAR)


def moved_findings(before: Iterable[Charge], after: Iterable[Charge], source: str) -> Iterator[Finding]:
    """An amendment may begin to sell a charge by AWS Marketplace, and not change how one is sold."""
    now = {charge.charge: (at, charge.marketplace) for at, charge in enumerate(after)}
    for charge in before:
        at, found = now.get(charge.charge, (None, None))
        if charge.marketplace is None or found == charge.marketplace:
            continue
        where = "charges" if at is None else f"charges[{at}].marketplace"
        allowed = f"{charge.charge} with {charge.marketplace}, as before: it says what AWS Marketplace has billed"
        yield Finding(source, where, str(found) if found else "none", allowed)


def shared_findings(mine: Iterable[Charge], theirs: Iterable[Charge], other: str, source: str) -> Iterator[Finding]:
    """Of two contracts that overlap: AWS keeps one record of a subscription for each hour."""
    taken = {charge.marketplace for charge in theirs if charge.marketplace}
    for at, charge in enumerate(mine):
        if charge.marketplace in taken:
            allowed = f"a subscription that contract {other} does not have"
            yield Finding(source, f"charges[{at}].marketplace", str(charge.marketplace), allowed)
