"""What AWS Marketplace took and what invoices billed is what was metered, exactly: whatever happened on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.document import utc_ms
from billing.marketplace.told import Status
from kernel.errors import ByocError
from kernel.ids import OrganizationId
from kernel.money import Money, currency
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.model import MeterPart, MeterUsage
from tests.billing.deals import ACME, Office, RecordedUsage
from tests.billing.marketplace_world import ACCOUNT, SOLD, Killed, Life, Shop, go_to, sold_contract
from tests.databases import open_migrated
from tests.effort import costly

RATE = 1000  # so that the least change of a quantity, 1/144, is of more than a cent
CHARGES = SOLD.replace('"0.10"', f'"{RATE}"').replace("2026-10-01", "2026-10-31")
MONTHS = ("2026-10", "2026-11")
HALF = HOUR_MS // 2
HOURS = 9  # around the end of October
QUANTITIES = st.fractions(min_value=0, max_value=9, max_denominator=12)
OUTCOMES = (
    "answered",
    "skipped",
    "lost",
    "never arrived",
    "throttled",
    "left",
    "unsubscribed",
    "foreign",
    "killed",
)


@dataclass(frozen=True)
class Step:
    """An hour: what is used in its halves, and what happens when it is sent. `steps`: until it is killed."""

    used: tuple[Fraction, Fraction]
    outcome: str
    steps: int


@dataclass(frozen=True)
class Later:
    """What became known of half an hour after it was sent: `when` 0 before October is closed, 1, 2 after."""

    half: int
    quantity: Fraction
    when: int


STEPS = st.lists(
    st.builds(Step, st.tuples(QUANTITIES, QUANTITIES), st.sampled_from(OUTCOMES), st.integers(0, 9)),
    min_size=HOURS,
    max_size=HOURS,
)
LATER = st.lists(st.builds(Later, st.integers(0, 2 * HOURS - 1), QUANTITIES, st.integers(0, 2)), max_size=4)


@dataclass
class HalfHours(RecordedUsage):
    """What was used, by the start of each half hour."""

    used: dict[int, Fraction] = field(default_factory=dict)

    def within(self, window: Window) -> Fraction:
        return sum((quantity for at, quantity in self.used.items() if at in window), Fraction(0))

    def meter(self, organization: OrganizationId, meter: str, window: Window, group_by: str | None) -> MeterUsage:
        self.meters = {meter: {}}
        found = super().meter(organization, meter, window, group_by)
        quantity = self.within(window)
        return replace(found, parts=(MeterPart("", quantity, (quantity,)),))


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shop]:
    def open_one(zone: str) -> Shop:
        folder: Path = tmp_path_factory.mktemp("shop")
        shop = Shop(Office(open_migrated(folder / "byoc.sqlite"), HalfHours()))
        text = sold_contract(f"time_zone: {zone}\n", CHARGES, term=("2026-10-31", "2026-12-02"))
        shop.office.book.add_contract(text, "contract.yaml", "test")
        return shop

    return open_one


@dataclass
class Play:
    """One run of months."""

    shop: Shop
    zone: str
    later: list[Later]

    @property
    def usage(self) -> HalfHours:
        assert isinstance(self.shop.office.usage, HalfHours)
        return self.shop.office.usage

    @property
    def first_ms(self) -> int:
        """Of the hours that are played; October ends in the middle of them, perhaps within one."""
        return next(iter(hours_in(month("2026-11", self.zone)))).start_ms - 4 * HOUR_MS

    def hour(self, index: int, step: Step) -> None:
        start_ms, emulator, client = self.first_ms + index * HOUR_MS, self.shop.emulator, self.shop.client
        self.usage.used |= {start_ms: step.used[0], start_ms + HALF: step.used[1]}
        go_to(self.shop.office.clock, start_ms + HOUR_MS + 60_000)
        life = Life(step.steps if step.outcome == "killed" else 1_000)
        client.lost, client.refused = int(step.outcome == "lost"), int(step.outcome == "never arrived")
        emulator.throttled, emulator.unprocessed = int(step.outcome == "throttled"), int(step.outcome == "left")
        emulator.unsubscribed = {ACCOUNT} if step.outcome == "unsubscribed" else set()
        if step.outcome == "foreign":
            emulator.metered.setdefault((ACCOUNT, "calls", start_ms // 1000), 3)
        if step.outcome != "skipped":
            with suppress(ByocError, Killed):
                self.shop.send(life)

    def revise(self, when: int) -> None:
        for one in self.later:
            if one.when == when:
                self.usage.used[self.first_ms + one.half * HALF] = one.quantity

    def resolve(self, *, all_of_them: bool = True) -> None:
        """A person reads AWS's report of each hour that is not known, or of those that no invoice goes without."""
        for hour_ms, hour in self.shop.hours().items():
            if hour.status is Status.OTHER_QUANTITY or (all_of_them and hour.is_unknown):
                self.shop.resolve(hour_ms, self.truth(hour_ms))

    def truth(self, hour_ms: int) -> int:
        return self.shop.emulator.metered.get((ACCOUNT, "calls", hour_ms // 1000), 0)

    def close(self, name: str) -> None:
        go_to(self.shop.office.clock, month(name, self.zone).end_ms + 48 * HOUR_MS)
        self.shop.office.run.close(ACME, name)

    def taken(self, name: str) -> int:
        """What AWS has of a month, by its own books: of an hour of two months as the log divides it."""
        period = month(name, self.zone)
        hours = self.shop.hours()
        owned = (replace(hour, status=Status.RESOLVED, resolved=self.truth(at)) for at, hour in hours.items())
        return sum(one.taken_of(piece) for one in owned for piece in one.pieces if piece.window.start_ms in period)

    def stated(self, name: str) -> Iterator[tuple[Fraction, Money]]:
        """Quantity and amount of each line that bills a month, in their order."""
        start = month(name, self.zone).intersection(self.shop.office.book.contract("acme-2026").contract.window)
        assert start is not None
        for invoice in sorted(self.shop.office.run.invoices(ACME), key=lambda one: one.issued_ms):
            document = invoice.document
            for line in document["lines"]:
                if line["kind"] in {"charge:calls", "correction:charge:calls"} and self._is_of(line, start):
                    quantity = Fraction(line["derivation"]["quantity"]["exact"])
                    yield quantity, Money(Decimal(line["amount"]), currency("USD"))

    def _is_of(self, line: dict[str, dict[str, str]], period: Window) -> bool:
        return utc_ms(line["period"]["start"]) == period.start_ms

    def left(self, name: str) -> Fraction:
        metered = self.usage.within(month(name, self.zone))
        return max(Fraction(0), metered - self.taken(name))


@costly(60, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(steps=STEPS, later=LATER, zone=st.sampled_from(["Etc/UTC", "Asia/Kolkata"]), asked=st.booleans())
def test_what_aws_took_and_invoices_billed_is_what_was_metered(
    shops: Callable[[str], Shop], steps: list[Step], later: list[Later], zone: str, asked: bool
) -> None:
    """`asked`: whether somebody asks AWS before October is closed, or only after."""
    play = Play(shops(zone), zone, later)
    for index, step in enumerate(steps):
        play.hour(index, step)
    play.revise(0)
    go_to(play.shop.office.clock, month("2026-10", zone).end_ms + 13 * HOUR_MS)
    play.resolve(all_of_them=asked)
    play.close("2026-10")
    [(quantity, amount)] = play.stated("2026-10")
    assert quantity <= play.left("2026-10"), "never more, while it is not known what AWS took"
    assert amount == Money.round_half_up(quantity * RATE, currency("USD"))
    play.revise(1)
    play.resolve()
    play.close("2026-11")
    play.revise(2)
    play.close("2026-12")
    play.shop.office.run.close(ACME, "2026-12")
    for hour_ms, hour in play.shop.hours().items():
        assert hour.taken == play.truth(hour_ms), "nothing is left that is not known"
    for name in MONTHS:
        lines = list(play.stated(name))
        assert lines[-1][0] == play.left(name), "the last that was said of a month is exact"
        billed = sum((each for _, each in lines), Money.zero(currency("USD")))
        assert billed == Money.round_half_up(play.left(name) * RATE, currency("USD"))
        excess = max(Fraction(0), play.taken(name) - play.usage.within(month(name, zone)))
        assert play.taken(name) + lines[-1][0] == play.usage.within(month(name, zone)) + excess
        foreign = any(step.outcome == "foreign" for step in steps)
        assert not excess or later or foreign, "AWS is never told more than is used"
    assert play.shop.office.balance() == 0
    play.shop.office.database.close()
