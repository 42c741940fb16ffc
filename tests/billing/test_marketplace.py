"""Usage to AWS Marketplace: whole numbers, once, in time; and what is known of what it took."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from billing.marketplace.records import HourUsage, PieceUsage, batches, plan_hours
from billing.marketplace.sender import ATTEMPTS, MarketplaceSender, metering_client
from billing.marketplace.store import MarketplaceLog, load_rows
from billing.marketplace.told import Event, Hour, LogRow, Piece, Status, hours_of, parse_log, render_row
from billing.models import marketplace_log
from kernel.clock import to_ms
from kernel.database import Database
from kernel.errors import Conflict, InvalidInput, NotFound, Refuse, Retry
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, Window
from tests.billing.deals import ACME, NOVEMBER_3, Office
from tests.billing.marketplace_emulator import PRODUCT, serving
from tests.billing.marketplace_world import (
    ACCOUNT,
    EVER,
    SUBSCRIPTION,
    DirectClient,
    Killed,
    Life,
    MortalClient,
    MortalLog,
    Shop,
    go_to,
    hour_usage,
)
from tests.databases import open_migrated
from tests.effort import costly

NOON = to_ms(NOVEMBER_3.replace(minute=0))


def hours(*quantities: str, last: int = NOON) -> list[HourUsage]:
    first = last - (len(quantities) - 1) * HOUR_MS
    return [hour_usage(first + index * HOUR_MS, each) for index, each in enumerate(quantities)]


def quantities(planned: tuple[Hour, ...]) -> list[int]:
    return [hour.quantity for hour in planned]


@costly(100)
@given(
    used=st.lists(st.fractions(min_value=0, max_value=1000), max_size=30),
    cut=st.integers(0, 30),
    edges=st.sets(st.integers(1, 59), max_size=3),
)
def test_what_is_told_and_left_is_what_was_used_however_it_is_cut(
    used: list[Fraction], cut: int, edges: set[int]
) -> None:
    """Halves of hours, lines that begin at any of them, and a second run over the same hours."""
    half = HOUR_MS // 2
    lines = list(Window(0, 30 * HOUR_MS).split([edge * half for edge in edges]))
    usage = []
    for index, exact in enumerate(used):
        parts = [
            (line, part)
            for line in lines
            if (part := line.intersection(Window(index * HOUR_MS, (index + 1) * HOUR_MS)))
        ]
        pieces = [PieceUsage("c", "calls", "2026-10", line, part, exact / len(parts)) for line, part in parts]
        usage.append(HourUsage(index * HOUR_MS, tuple(pieces)))
    first = plan_hours(usage[:cut], (), HOUR_MS)
    second = plan_hours(usage, first.hours, HOUR_MS)
    planned = [*first.hours, *second.hours]
    found = {hour.hour_ms for hour in planned} | {hour.hour_ms for hour in second.late}
    assert found == {each.hour_ms for each in usage}
    for line in lines:
        mine = [piece for hour in planned for piece in hour.pieces if piece.window.start_ms in line]
        left = sum((piece.exact - piece.quantity for piece in mine), Fraction(0))
        assert 0 <= left < 1, "what a line leaves to the invoice is below one unit"


def test_the_fraction_is_carried_into_the_next_hour_of_the_line() -> None:
    plan = plan_hours(hours("1/3", "1/3", "1/3", "5/2"), (), NOON)
    assert quantities(plan.hours) == [0, 0, 1, 2]
    line = Window(NOON, NOON + HOUR_MS)
    after = plan_hours(
        [hour_usage(NOON, "3/4", line)], plan_hours(hours("3/4", last=NOON - HOUR_MS), (), NOON).hours, NOON
    )
    assert quantities(after.hours) == [0], "and never into the next line"


def test_an_hour_in_which_a_month_ends_is_one_record_of_two_pieces() -> None:
    """18:30 UTC is midnight in Asia/Kolkata: AWS de-duplicates by the hour."""
    half = NOON + HOUR_MS // 2
    ended, begins = Window(0, half), Window(half, 2**60)
    pieces = (
        PieceUsage("c", "calls", "2026-10", ended, Window(NOON, half), Fraction("1.9")),
        PieceUsage("c", "calls", "2026-11", begins, Window(half, NOON + HOUR_MS), Fraction("2.9")),
    )
    [hour] = plan_hours([HourUsage(NOON, pieces)], (), NOON).hours
    assert [piece.quantity for piece in hour.pieces] == [1, 2]
    assert hour.quantity == 3, "and not the 4 that both pieces are together"
    partly = Hour(NOON, hour.pieces, Status.RESOLVED, resolved=2)
    assert [partly.taken_of(piece) for piece in hour.pieces] == [1, 1]
    more = Hour(NOON, hour.pieces, Status.RESOLVED, resolved=7)
    assert [more.taken_of(piece) for piece in hour.pieces] == [1, 6]


def test_an_hour_that_is_nearly_six_hours_old_goes_to_the_invoice() -> None:
    plan = plan_hours(hours("1", "2", "3", "4", "5", "6", "7"), (), NOON + HOUR_MS)
    assert quantities(plan.hours) == [3, 4, 5, 6, 7]
    assert [hour.pieces[0].exact for hour in plan.late] == [1, 2]


def test_a_correction_of_a_planned_hour_is_not_planned() -> None:
    before = plan_hours(hours("3/2"), (), NOON).hours
    assert plan_hours(hours("9"), before, NOON).hours == ()


def test_at_most_25_records_a_call() -> None:
    planned = [Hour(index, ()) for index in range(51)]
    assert [len(batch) for batch in batches(planned)] == [25, 25, 1]


@pytest.mark.parametrize(("quantity", "allowed"), [("-1", "not below zero"), ("2147483648", "at most 2147483647")])
def test_quantities_that_aws_can_not_take_are_refused(quantity: str, allowed: str) -> None:
    with pytest.raises(InvalidInput, match=allowed):
        plan_hours(hours(quantity), (), NOON)


SENT, BACK, OK, NOT, OTHER, SAID = (
    Event.SENDING,
    Event.RETURNED,
    Event.ACCEPTED,
    Event.NOT_SUBSCRIBED,
    Event.OTHER_QUANTITY,
    Event.RESOLVED,
)


@pytest.mark.parametrize(
    ("events", "status", "taken"),
    [
        ([], "unsent", 0),
        ([SENT], "unanswered", 7),
        ([SENT, BACK], "unsent", 0),
        ([SENT, OK], "accepted", 7),
        ([SENT, NOT], "not-subscribed", 0),
        ([SENT, OTHER], "other-quantity", 7),
        ([SENT, SENT, OK], "accepted", 7),
        ([SENT, SENT, BACK], "unanswered", 7),  # of two processes one knows that its call changed nothing
        ([SENT, SENT, NOT], "unanswered", 7),  # the lost call may have come while there was a subscription
        ([SENT, SENT, OTHER], "other-quantity", 7),  # had the first been taken, the hour would have our quantity
        ([SENT, OK, SENT], "accepted", 7),
        ([SENT, OK, SENT, BACK], "accepted", 7),
        ([SENT, SAID], "resolved", 3),
        ([SENT, SENT, SAID, OK], "accepted", 7),  # the answer was not lost: another process had it
        ([SENT, OK, SAID], "resolved", 3),  # a refund
        ([SENT, OTHER, SAID], "resolved", 3),
        ([SENT, NOT, SENT, BACK], "unsent", 0),
    ],
)
def test_what_counts_as_taken(events: list[Event], status: str, taken: int) -> None:
    piece = Piece("c", "calls", "2026-10", Window(NOON, NOON + HOUR_MS), Fraction(15, 2), 7)
    rows = [LogRow(1, NOON, Event.PLANNED, NOON, "test", (piece,))]
    rows += [
        LogRow(number, NOON, event, NOON, "test", taken=3 if event is SAID else None)
        for number, event in enumerate(events, start=2)
    ]
    hour = hours_of(reversed(rows))[NOON]
    assert (hour.status, hour.taken) == (status, taken)
    content = b"".join(render_row(row) for row in rows)
    assert parse_log(content, "log") == tuple(rows)
    with pytest.raises(InvalidInput, match="line 1: found"):
        parse_log(content.replace(b'"quantity":"7"', b'"quantity":"+7"'), "log")
    with pytest.raises(InvalidInput, match="order"):
        parse_log(content + content, "log")


@pytest.fixture
def shop(small_office: Office) -> Shop:
    return Shop(small_office)


@pytest.fixture
def client(shop: Shop) -> Iterator[Any]:
    import boto3
    from botocore.config import Config

    with serving(shop.emulator) as address:
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


def statuses(shop: Shop) -> list[str]:
    return [hour.status.value for _, hour in sorted(shop.hours().items())]


def wire(hour_ms: int, quantity: int) -> dict[str, Any]:
    return {
        "Timestamp": hour_ms / 1000,
        "CustomerAWSAccountId": ACCOUNT,
        "Dimension": "calls",
        "Quantity": quantity,
    }


def test_the_emulator_is_strict(client: Any) -> None:
    def send(*records: dict[str, Any]) -> Any:
        return client.batch_meter_usage(ProductCode=PRODUCT, UsageRecords=list(records))

    with pytest.raises(client.exceptions.ClientError, match="ValidationException"):
        send(*[wire(NOON, 1)] * 26)
    with pytest.raises(client.exceptions.TimestampOutOfBoundsException):
        send(wire(NOON - 6 * HOUR_MS, 1))
    assert send(wire(NOON, 1))["Results"][0]["Status"] == "Success"
    assert send(wire(NOON, 1))["Results"][0]["Status"] == "Success"
    assert send(wire(NOON, 2))["Results"][0]["Status"] == "DuplicateRecord"


def test_what_was_planned_stays_as_it_was_and_is_sent_once(shop: Shop, client: Any) -> None:
    shop.client = client
    shop.log.plan(hours("1/2", "1/2"))
    shop.emulator.unprocessed = 1
    shop.sender.send(shop.log, hours("3", "1/2", "99"))
    assert sorted(shop.emulator.metered.values()) == [0, 1, 3]
    assert statuses(shop) == ["accepted"] * 3
    calls = len(shop.emulator.calls)
    shop.sender.send(shop.log, hours("3", "1/2", "99"))
    assert len(shop.emulator.calls) == calls, "nothing is left to send"


def test_what_is_throttled_is_sent_again_later_and_later(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the client of the command; only its waiting is not real. In the end the log knows what is left."""
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waits.append)
    with serving(shop.emulator) as address:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        shop.client = metering_client()
        shop.emulator.throttled = 2
        shop.sender.send(shop.log, hours("3"))
        assert (statuses(shop), len(waits)) == (["accepted"], 2)
        assert (0 <= waits[0] <= 1, 0 <= waits[1] <= 2) == (True, True)
        shop.emulator.throttled = ATTEMPTS
        with pytest.raises(Retry, match="Throttling"):
            shop.sender.send(shop.log, hours("5", "3"))
        assert statuses(shop) == ["unanswered", "accepted"], "of calls that boto3 repeated one may be lost"
        shop.sender.send(shop.log, hours("5", "3"))
        shop.client.close()
    assert (statuses(shop), sorted(shop.emulator.metered.values())) == (["accepted"] * 2, [3, 5])


def test_a_call_that_is_refused_is_known_to_have_changed_nothing(shop: Shop, client: Any) -> None:
    shop.client = client
    shop.emulator.throttled = 1
    with pytest.raises(Retry, match="Throttling"):
        shop.sender.send(shop.log, hours("3"))
    assert statuses(shop) == ["unsent"]


def test_a_lost_answer_leaves_an_hour_unanswered_until_it_is_sent_again(shop: Shop, client: Any) -> None:
    shop.client = client
    shop.emulator.lost_answers = 1
    with pytest.raises(Retry):
        shop.sender.send(shop.log, hours("3"))
    assert (statuses(shop), shop.taken()) == (["unanswered"], 3)
    shop.sender.send(shop.log, [])
    assert (statuses(shop), shop.taken()) == (["accepted"], 3)


def test_records_left_unprocessed_are_sent_again_and_then_left_to_the_next_run(shop: Shop, client: Any) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        shop.emulator.unprocessed = 1

    shop.emulator.unprocessed = 1
    with pytest.raises(Retry, match="left 1 records"):
        MarketplaceSender(client, shop.office.clock, wait).send(shop.log, hours("3", "5"))
    assert [0.5 * 2**at <= seconds <= 2**at for at, seconds in enumerate(waits)] == [True] * (ATTEMPTS - 1)
    assert statuses(shop) == ["unsent", "accepted"]
    shop.client = client
    shop.sender.send(shop.log, [])
    assert sorted(shop.emulator.metered.values()) == [3, 5]


def test_killed_at_any_step_it_meters_each_hour_once(tmp_path: Path) -> None:
    used = hours("1/2", "3/2", "7/3", "1", "5/2")
    for steps in range(100):
        shop = Shop(Office(open_migrated(tmp_path / f"{steps}.sqlite")))
        shop.emulator.unprocessed = 1
        life = Life(steps)
        mortal = MortalLog(shop.office.database, shop.office.clock, ACME, SUBSCRIPTION, life=life)
        try:
            shop.client = MortalClient(DirectClient(shop.emulator), life)
            shop.sender.send(mortal, used)
        except Killed:
            was_killed = True
        else:
            was_killed = False
        known = sum(hour.taken for hour in shop.hours().values())
        assert shop.taken() <= known, "what AWS may have taken counts as taken"
        shop.client = DirectClient(shop.emulator)
        shop.sender.send(shop.log, used)
        assert statuses(shop) == ["accepted"] * 5, steps
        assert shop.taken() == 7, steps
        shop.office.database.close()
        if not was_killed:
            break
    assert 8 < steps < 99


def test_two_processes_that_send_at_once_tell_each_hour_once(office: Office) -> None:
    """One begins a call; the other plans, sends and hears; then the first hears, too."""
    shop = Shop(office)
    slow = shop.log
    slow.plan(hours("1/2", "3/2", last=NOON - HOUR_MS))
    begun = slow.begin(slow.waiting(EVER))
    shop.sender.send(shop.log, hours("99", "99", "1"))
    assert statuses(shop) == ["accepted"] * 3
    slow.note({hour.hour_ms: (Event.RETURNED, "") for hour in begun})
    assert (statuses(shop), slow.begin(begun)) == (["accepted"] * 3, [])
    assert sorted(shop.emulator.metered.values()) == [0, 1, 2]


def test_positions_have_no_gap_and_rows_never_change(office: Office) -> None:
    shop = Shop(office)
    shop.sender.send(shop.log, hours("1", "2"))
    rows = office.database.read(lambda connection: load_rows(connection, SUBSCRIPTION, EVER))
    assert [row.position for row in rows] == list(range(1, 7))
    for statement in (
        sa.update(marketplace_log).values(event="resolved"),
        sa.delete(marketplace_log),
    ):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            office.database.transact(lambda connection, one=statement: connection.execute(one))  # type: ignore[misc]


def test_a_subscription_is_of_one_organization(shop: Shop) -> None:
    shop.log.plan(hours("1"))
    other = MarketplaceLog(shop.office.database, shop.office.clock, OrganizationId("other"), SUBSCRIPTION)
    with pytest.raises(Conflict, match="organization acme"):
        other.plan(hours("1", "2"))


def test_what_aws_says_of_a_record_is_kept(shop: Shop) -> None:
    shop.emulator.metered[ACCOUNT, "calls", NOON // 1000] = 5
    shop.sender.send(shop.log, hours("3"))
    assert statuses(shop) == ["other-quantity"]
    shop.emulator.unsubscribed.add(ACCOUNT)
    go_to(shop.office.clock, NOON + HOUR_MS + 1)
    shop.sender.send(shop.log, hours("3", last=NOON + HOUR_MS))
    assert statuses(shop) == ["other-quantity", "not-subscribed"]


def test_a_record_whose_time_ran_out_is_known_by_whether_it_was_sent(shop: Shop) -> None:
    shop.log.plan(hours("1", "2"))
    shop.log.begin(shop.log.waiting(Window(NOON, NOON + 1)))
    go_to(shop.office.clock, NOON + 6 * HOUR_MS)
    shop.sender.send(shop.log, [])
    assert (statuses(shop), shop.emulator.calls) == (["unsent", "unanswered"], [])


def test_a_person_resolves_what_is_not_known_and_nothing_else(shop: Shop) -> None:
    shop.log.plan(hours("1", "2", "3", "4"))
    unsent, lost, other, accepted = (NOON - at * HOUR_MS for at in (3, 2, 1, 0))
    shop.emulator.metered[ACCOUNT, "calls", other // 1000] = 50
    shop.emulator.unprocessed = 1
    shop.client.lost = 1
    with pytest.raises(Retry):
        shop.sender.send(shop.log, [])
    with pytest.raises(Conflict, match="may still be answered"):
        shop.resolve(lost, 2)
    batch = [hour for hour in shop.log.waiting(EVER) if hour.hour_ms in {other, accepted}]
    shop.sender._send(shop.log, batch)
    shop.office.clock.step_wall(6 * 3600)
    # The call that was lost had all four, one of them unprocessed: of that one, too, nobody knows.
    assert statuses(shop) == ["unanswered", "unanswered", "other-quantity", "accepted"]
    with pytest.raises(InvalidInput, match="0 or 2, whole"):
        shop.resolve(lost, 1)
    with pytest.raises(InvalidInput, match="0 to 4"):
        shop.resolve(accepted, 5)
    with pytest.raises(NotFound, match="told nothing"):
        shop.resolve(NOON + HOUR_MS, 1)
    shop.resolve(unsent, 0)
    shop.resolve(lost, 2)
    shop.resolve(other, 50)
    shop.resolve(other, 49)
    shop.resolve(accepted, 1)
    assert [hour.taken for _, hour in sorted(shop.hours().items())] == [0, 2, 49, 1]


def test_an_hour_that_was_never_sent_needs_no_person(shop: Shop) -> None:
    shop.log.plan(hours("1"))
    shop.office.clock.step_wall(6 * 3600)
    with pytest.raises(Conflict, match="it is known that AWS took nothing"):
        shop.resolve(NOON, 0)


def test_a_call_that_is_refused_is_not_repeated(shop: Shop) -> None:
    other = SUBSCRIPTION.model_copy(update={"product": "another"})
    log = MarketplaceLog(shop.office.database, shop.office.clock, ACME, other)
    with pytest.raises(Refuse, match="InvalidProductCode"):
        shop.sender.send(log, hours("1"))
    assert shop.emulator.calls == [1]


def test_without_credentials_nothing_was_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with serving(shop.emulator) as address:
        shop.client = boto3.session.Session().client(
            "meteringmarketplace", region_name="us-east-1", endpoint_url=address
        )
        with pytest.raises(Refuse, match="credentials"):
            shop.sender.send(shop.log, hours("1"))
        shop.client.close()
    assert statuses(shop) == ["unsent"]


def test_the_database_keeps_one_row_for_a_position(sqlite: Database) -> None:
    log = MarketplaceLog(sqlite, Office(sqlite).clock, ACME, SUBSCRIPTION)
    log.plan(hours("1"))
    values = {**SUBSCRIPTION.model_dump(), "position": 1, "organization": "acme", "hour_ms": 1, "event": "planned"}
    values |= {"at_ms": 1, "actor": "test", "detail": "{}"}
    with pytest.raises(sa.exc.DBAPIError, match="that key is taken"):
        sqlite.transact(lambda connection: connection.execute(sa.insert(marketplace_log).values(values)))
