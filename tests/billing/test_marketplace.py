"""Usage to AWS Marketplace: whole numbers, once, in time; the rest goes to the invoice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.exports.marketplace import (
    HourQuantity,
    Journal,
    MarketplaceSender,
    Subscription,
    metering_client,
    plan_records,
)
from billing.exports.marketplace.records import UsageRecord, batches, left_to_invoice
from billing.exports.marketplace.sender import ATTEMPTS
from kernel.clock import VirtualClock, to_ms
from kernel.errors import InvalidInput, Refuse, Retry
from kernel.window import HOUR_MS
from tests.billing.deals import NOVEMBER_3
from tests.billing.marketplace_emulator import PRODUCT, Emulator, serving
from tests.effort import costly

NOON = to_ms(NOVEMBER_3.replace(minute=0))
ACCOUNT = "123456789012"
SUBSCRIPTION = Subscription(PRODUCT, ACCOUNT, "vcpu_hours")


def hours(*quantities: str, last: int = NOON) -> list[HourQuantity]:
    first = last - (len(quantities) - 1) * HOUR_MS
    return [HourQuantity(first + index * HOUR_MS, Fraction(each)) for index, each in enumerate(quantities)]


@costly(100)
@given(st.lists(st.fractions(min_value=0, max_value=1000), max_size=30), st.integers(0, 30))
def test_what_is_sent_and_carried_is_what_was_used_however_it_is_cut(used: list[Fraction], cut: int) -> None:
    known = [HourQuantity(index * HOUR_MS, each) for index, each in enumerate(used)]
    now = HOUR_MS
    first = plan_records(known[:cut], (), now)
    second = plan_records(known, first.records, now)
    sent = [*first.records, *second.records]
    taken = {record.hour_ms for record in sent} | {each.hour_ms for each in second.late}
    assert taken == {each.hour_ms for each in known}
    assert sum(record.quantity for record in sent) + second.carried == sum(record.exact for record in sent)
    assert 0 <= second.carried < 1
    assert left_to_invoice(known, sent) == sum(used, Fraction(0)) - sum(record.quantity for record in sent)


def test_the_fraction_is_carried_into_the_next_hour() -> None:
    plan = plan_records(hours("1/3", "1/3", "1/3", "5/2"), (), NOON)
    assert [record.quantity for record in plan.records] == [0, 0, 1, 2]
    assert plan.carried == Fraction(1, 2)


def test_an_hour_that_is_nearly_six_hours_old_goes_to_the_invoice() -> None:
    at = NOON + HOUR_MS
    plan = plan_records(hours("1", "2", "3", "4", "5", "6", "7"), (), at)
    assert [record.quantity for record in plan.records] == [3, 4, 5, 6, 7]
    assert [hour.quantity for hour in plan.late] == [1, 2]
    assert left_to_invoice(hours("1", "2", "3", "4", "5", "6", "7"), plan.records) == 3


def test_a_correction_of_a_sent_hour_is_not_sent_and_goes_to_the_invoice() -> None:
    before = plan_records(hours("3/2"), (), NOON).records
    again = plan_records(hours("9"), before, NOON)
    assert again.records == ()
    assert left_to_invoice(hours("9"), before) == 8


def test_at_most_25_records_a_call() -> None:
    records = [UsageRecord(index, Fraction(1), 1) for index in range(51)]
    assert [len(batch) for batch in batches(records)] == [25, 25, 1]


@pytest.mark.parametrize(("quantity", "allowed"), [("-1", "not below zero"), ("2147483648", "at most 2147483647")])
def test_quantities_that_aws_can_not_take_are_refused(quantity: str, allowed: str) -> None:
    with pytest.raises(InvalidInput, match=allowed):
        plan_records(hours(quantity), (), NOON)


def test_an_account_is_digits() -> None:
    with pytest.raises(InvalidInput, match="AWS account id"):
        Subscription(PRODUCT, "acme", "vcpu_hours")


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(VirtualClock(NOVEMBER_3))


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    import boto3
    from botocore.config import Config

    with serving(emulator) as address:
        made = boto3.client(
            "meteringmarketplace",
            region_name="us-east-1",
            endpoint_url=address,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )
        yield made
        made.close()


def sender_of(client: Any, emulator: Emulator) -> MarketplaceSender:
    return MarketplaceSender(client, emulator.clock, lambda seconds: None)


def wire(hour_ms: int, quantity: int) -> dict[str, Any]:
    return {
        "Timestamp": hour_ms / 1000,
        "CustomerAWSAccountId": ACCOUNT,
        "Dimension": "vcpu_hours",
        "Quantity": quantity,
    }


def test_the_emulator_is_strict(emulator: Emulator, client: Any) -> None:
    def send(*records: dict[str, Any]) -> Any:
        return client.batch_meter_usage(ProductCode=PRODUCT, UsageRecords=list(records))

    with pytest.raises(client.exceptions.ClientError, match="ValidationException"):
        send(*[wire(NOON, 1)] * 26)
    with pytest.raises(client.exceptions.TimestampOutOfBoundsException):
        send(wire(NOON - 6 * HOUR_MS, 1))
    assert send(wire(NOON, 1))["Results"][0]["Status"] == "Success"
    assert send(wire(NOON, 1))["Results"][0]["Status"] == "Success"
    assert send(wire(NOON, 2))["Results"][0]["Status"] == "DuplicateRecord"


def test_each_hour_is_metered_once_whatever_is_lost(emulator: Emulator, client: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sender = sender_of(client, emulator)
    emulator.lost_answers = 1
    with pytest.raises(Retry):
        sender.send(Journal(path, SUBSCRIPTION), hours("1/2", "1/2"))
    with path.open("a") as file:
        file.write('{"hour_ms": 1, "exa')  # killed in the middle of a line
    again = Journal(path, SUBSCRIPTION)
    assert len(again.unanswered()) == 2
    emulator.unprocessed = 1
    sender.send(again, hours("3", "1/2", "99"))  # what is planned stays as it was
    assert sorted(emulator.metered.values()) == [0, 1, 3]
    last = Journal(path, SUBSCRIPTION)
    assert (last.unanswered(), set(last.outcomes.values())) == ([], {"Success"})
    calls = len(emulator.calls)
    sender.send(last, hours("3", "1/2", "99"))
    assert len(emulator.calls) == calls, "nothing is left to send"


def test_what_is_throttled_is_sent_again_later_and_later(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the client of the command; only its waiting is not real. In the end the journal knows what is left."""
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waits.append)
    with serving(emulator) as address:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = metering_client()
        journal = Journal(tmp_path / "journal", SUBSCRIPTION)
        emulator.throttled = 2
        sender_of(client, emulator).send(journal, hours("3"))
        assert (journal.outcomes, len(waits)) == ({NOON: "Success"}, 2)
        assert (0 <= waits[0] <= 1, 0 <= waits[1] <= 2) == (True, True)
        emulator.throttled = ATTEMPTS
        with pytest.raises(Retry, match="Throttling"):
            sender_of(client, emulator).send(journal, hours("5", "3"))
        assert (emulator.throttled, len(journal.unanswered())) == (0, 1)
        sender_of(client, emulator).send(journal, hours("5", "3"))
        client.close()
    assert (journal.unanswered(), sorted(emulator.metered.values())) == ([], [3, 5])


def test_records_left_unprocessed_are_sent_again_and_then_left_to_the_next_run(
    emulator: Emulator, client: Any, tmp_path: Path
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        emulator.unprocessed = 1

    emulator.unprocessed = 1
    journal = Journal(tmp_path / "journal", SUBSCRIPTION)
    with pytest.raises(Retry, match="left 1 records"):
        MarketplaceSender(client, emulator.clock, wait).send(journal, hours("3", "5"))
    assert [0.5 * 2**at <= seconds <= 2**at for at, seconds in enumerate(waits)] == [True] * (ATTEMPTS - 1)
    sender_of(client, emulator).send(journal, [])
    assert sorted(emulator.metered.values()) == [3, 5]


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


def mortal(journal: Journal, life: Life) -> None:
    """Each write of the journal may be the last thing done, before it, in its middle or after it."""
    append = journal._append

    def write(rows: list[dict[str, object]]) -> None:
        life.step()
        size = journal.path.stat().st_size
        append(rows)
        whole = journal.path.read_bytes()
        journal.path.write_bytes(whole[: (size + len(whole)) // 2])
        life.step()
        journal.path.write_bytes(whole)
        life.step()

    journal._append = write  # type: ignore[method-assign]


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


def test_killed_at_any_step_it_meters_each_hour_once(emulator: Emulator, client: Any, tmp_path: Path) -> None:
    used = hours("1/2", "3/2", "7/3", "1", "5/2")
    for steps in range(100):
        emulator.metered.clear()
        emulator.unprocessed = 1
        path, life = tmp_path / str(steps), Life(steps)
        journal = Journal(path, SUBSCRIPTION)
        mortal(journal, life)
        try:
            sender_of(MortalClient(client, life), emulator).send(journal, used)
        except Killed:
            was_killed = True
        else:
            was_killed = False
        again = Journal(path, SUBSCRIPTION)
        sender_of(client, emulator).send(again, used)
        assert (len(again.outcomes), set(again.outcomes.values())) == (5, {"Success"}), steps
        assert sum(emulator.metered.values()) == sum(each.quantity for each in used) // 1 == 7, steps
        if not was_killed:
            break
    assert 10 < steps < 99


@pytest.mark.parametrize("left", [0, 20])
def test_a_journal_whose_making_was_cut_is_made_again(tmp_path: Path, left: int) -> None:
    path = tmp_path / "journal"
    Journal(path, SUBSCRIPTION)
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    Journal(path, SUBSCRIPTION)
    assert path.read_bytes() == whole
    with pytest.raises(InvalidInput, match="subscription"):
        Journal(path, Subscription(PRODUCT, "999", "vcpu_hours"))


def test_what_aws_says_of_a_record_is_kept(emulator: Emulator, client: Any, tmp_path: Path) -> None:
    emulator.metered[ACCOUNT, "vcpu_hours", NOON // 1000] = 7
    journal = Journal(tmp_path / "journal", SUBSCRIPTION)
    sender_of(client, emulator).send(journal, hours("3"))
    assert journal.outcomes == {NOON: "DuplicateRecord"}
    emulator.unsubscribed.add("42")
    other = Journal(tmp_path / "other", Subscription(PRODUCT, "42", "vcpu_hours"))
    sender_of(client, emulator).send(other, hours("3"))
    assert other.outcomes == {NOON: "CustomerNotSubscribed"}


def test_a_record_whose_time_ran_out_unanswered_is_said_to_be_late(
    emulator: Emulator, client: Any, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal", SUBSCRIPTION)
    journal.plan([UsageRecord(NOON - 6 * HOUR_MS, Fraction(1), 1)])
    sender_of(client, emulator).send(journal, [])
    assert (list(journal.outcomes.values()), emulator.calls) == (["late"], [])


def test_a_call_that_is_refused_is_not_repeated(emulator: Emulator, client: Any, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", Subscription("another", ACCOUNT, "vcpu_hours"))
    with pytest.raises(Refuse, match="InvalidProductCode"):
        sender_of(client, emulator).send(journal, hours("1"))
    assert emulator.calls == [1]


def test_a_journal_of_another_subscription_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "journal", SUBSCRIPTION)
    with pytest.raises(InvalidInput, match="subscription"):
        Journal(tmp_path / "journal", Subscription(PRODUCT, "42", "vcpu_hours"))
    (tmp_path / "journal").write_text("[]\n")
    with pytest.raises(InvalidInput, match="line 1"):
        Journal(tmp_path / "journal", SUBSCRIPTION)
