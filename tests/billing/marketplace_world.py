"""A contract with a charge that AWS Marketplace bills, and the strict stand-in for AWS without its server."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from billing.marketplace.reading import usage_to_tell
from billing.marketplace.records import HourUsage, PieceUsage
from billing.marketplace.sender import MarketplaceSender
from billing.marketplace.store import MarketplaceLog
from billing.marketplace.terms import Subscription
from billing.marketplace.told import Hour, hours_of
from kernel.clock import VirtualClock, to_ms
from kernel.window import HOUR_MS, Window
from tests.billing.deals import ACME, Office, contract_text
from tests.billing.marketplace_emulator import PRODUCT, Emulator, Refused

EVER = Window(0, 2**62)
ACCOUNT = "123456789012"
SUBSCRIPTION = Subscription(product=PRODUCT, account=ACCOUNT, dimension="calls")
SOLD = """\
charges:
  - charge: calls
    description: Calls
    meter: calls
    marketplace: {product: prod-1, account: "123456789012", dimension: calls}
    steps: [{start: 2026-10-01, model: {kind: per-unit, unit: "0.10"}}]
"""


def sold_contract(more: str = "", charges: str = SOLD, **named: Any) -> str:
    """No vCPU, and calls that AWS Marketplace bills at 0.10."""
    return contract_text(vcpu=0, on_demand=False, more=charges + more, **named)


def hour_usage(hour_ms: int, exact: str | Fraction, line: Window | None = None, of: str = "acme-2026") -> HourUsage:
    """A whole hour of one charge; `line`: of the invoice, from the first to the end of time by default."""
    piece = PieceUsage(
        *(of, "calls", "2026-10", line or Window(0, 2**60), Window(hour_ms, hour_ms + HOUR_MS)), Fraction(exact)
    )
    return HourUsage(hour_ms, (piece,))


@dataclass
class DirectClient:
    """The emulator as a client of boto3 would have it. What is `lost` is served and never answered."""

    emulator: Emulator
    lost: int = 0
    refused: int = 0  # the next calls never arrive

    def batch_meter_usage(self, **call: Any) -> Any:
        from botocore.exceptions import ClientError, ReadTimeoutError

        if self.refused:
            self.refused -= 1
            raise ReadTimeoutError(endpoint_url="aws")
        records = [{**one, "Timestamp": to_ms(one["Timestamp"]) / 1000} for one in call["UsageRecords"]]
        metadata = {"RetryAttempts": 0, "HTTPStatusCode": 200}
        try:
            answer = self.emulator.batch_meter_usage({**call, "UsageRecords": records})
        except Refused as error:
            metadata["HTTPStatusCode"] = 400
            content: Any = {"Error": {"Code": str(error)}, "ResponseMetadata": metadata}
            raise ClientError(content, "BatchMeterUsage") from error
        if self.lost:
            self.lost -= 1
            raise ReadTimeoutError(endpoint_url="aws")
        for one in (*(each["UsageRecord"] for each in answer["Results"]), *answer["UnprocessedRecords"]):
            one["Timestamp"] = datetime.fromtimestamp(one["Timestamp"], UTC)
        return {**answer, "ResponseMetadata": metadata}


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Life:
    """How many more steps a process takes."""

    steps: int

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Killed


@dataclass(frozen=True, slots=True)
class MortalLog(MarketplaceLog):
    """Each transaction may be the last thing that a process does: before it, and after it."""

    life: Life = field(default_factory=lambda: Life(0))

    def plan(self, usage: Any) -> Any:
        return self._mortal(lambda: MarketplaceLog.plan(self, usage))

    def begin(self, hours: Any) -> Any:
        return self._mortal(lambda: MarketplaceLog.begin(self, hours))

    def note(self, answers: Any) -> None:
        self._mortal(lambda: MarketplaceLog.note(self, answers))

    def _mortal(self, act: Any) -> Any:
        self.life.step()
        done = act()
        self.life.step()
        return done


@dataclass
class MortalClient:
    """The process may end before a call, or after AWS took it and before anyone knows."""

    client: Any
    life: Life

    def batch_meter_usage(self, **call: Any) -> Any:
        self.life.step()
        answer = self.client.batch_meter_usage(**call)
        self.life.step()
        return answer


@dataclass
class Shop:
    """An office that sells by AWS Marketplace."""

    office: Office
    emulator: Emulator = field(init=False)
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.emulator = Emulator(self.office.clock)
        self.client = DirectClient(self.emulator)

    @property
    def log(self) -> MarketplaceLog:
        return MarketplaceLog(self.office.database, self.office.clock, ACME, SUBSCRIPTION)

    @property
    def sender(self) -> MarketplaceSender:
        return MarketplaceSender(self.client, self.office.clock, lambda seconds: None)

    def use(self, hour_ms: int, quantity: str | Fraction) -> None:
        self.office.usage.meters.setdefault("calls", {}).setdefault("main", {})[hour_ms] = Fraction(quantity)

    def send(self, life: Life | None = None) -> None:
        """What the command does of one organization. Raises Killed once `life` is over."""
        life = life or Life(1_000)
        contracts = self.office.book.contracts(ACME)
        told = usage_to_tell(contracts, self.office.usage, self.office.clock.now_ms())
        for subscription, usage in told.items():
            log = MortalLog(self.office.database, self.office.clock, ACME, subscription, life=life)
            client: Any = MortalClient(self.client, life)
            MarketplaceSender(client, self.office.clock, lambda seconds: None).send(log, usage)

    def hours(self, window: Window = EVER) -> dict[int, Hour]:
        from billing.marketplace.store import load_rows

        rows = self.office.database.read(lambda connection: load_rows(connection, SUBSCRIPTION, window))
        return hours_of(rows)

    def resolve(self, hour_ms: int, taken: int) -> None:
        self.office.database.transact(
            lambda connection: self.log.resolve(connection, hour_ms, taken, "AWS's report")
        )

    def taken(self, window: Window = EVER) -> int:
        """What AWS says that it has taken of hours in a window."""
        return sum(quantity for (_, _, at), quantity in self.emulator.metered.items() if at * 1000 in window)


def go_to(clock: VirtualClock, moment_ms: int) -> None:
    """Time passes until then."""
    clock.step_wall((moment_ms - clock.now_ms()) / 1000)
