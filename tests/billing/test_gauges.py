"""Licence gauges as the alert rules will read them: from the live topic, under the internal identity."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from billing.api import LicenceCapacity, LicenceGauges
from billing.contract import Contract, parse_contract
from billing.gauges import read_states
from billing.terms_left import terms_left
from kernel.clock import VirtualClock
from kernel.ids import JobId, Tenant
from kernel.log import LogUnavailable, LogWriter, Position, Record
from kernel.log.memory import MemoryLog
from metering.record import LIVE_TOPIC, Lane, decode_batch, decode_header, parse_canonical_labels
from tests.billing.deals import ACME, Office, contract_text, licence_text

NOW = datetime(2027, 9, 1, tzinfo=UTC)


def _licensed(office: Office, *organizations: str) -> None:
    for organization in organizations:
        office.book.add_contract(contract_text(organization), "contract.yaml", "test")
        office.book.add_licence(licence_text(organization), "licence.yaml", "test")


def _reserve(office: Office, vcpu: int) -> None:
    def reserve(connection: sa.Connection) -> None:
        LicenceCapacity(VirtualClock(NOW)).reserve(connection, ACME, "c1", vcpu * 1000, JobId("job-one"))

    office.database.transact(reserve)


def _values(record: Record) -> dict[str, float]:
    batch = decode_batch(record.value)
    labels = [dict(parse_canonical_labels(series)) for series in batch.series]
    assert batch.timestamps_ms.tolist() == [decode_header(record).received_ms] * len(labels)
    of_contract = [found for found in labels if found["__name__"] == "byoc_contract_remaining_seconds"]
    assert [found["contract"] for found in of_contract] == ["acme-2026"]
    assert {(found["organization"], found["project"]) for found in labels} == {("acme", "vendor")}
    return {
        labels[index]["__name__"]: value
        for index, value in zip(batch.series_index.tolist(), batch.values.tolist(), strict=True)
    }


class KeptWriter:
    """Keeps what is appended; refuses the first `failures` calls."""

    max_record_bytes = 1_000_000

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.records: list[Record] = []

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("the log does not answer")
        assert topic == LIVE_TOPIC
        self.records.extend(records)
        return [Position(topic, 0, index) for index, _ in enumerate(records)]

    async def close(self) -> None:
        pass


async def test_the_gauges_of_a_licence(small_office: Office) -> None:
    _licensed(small_office, "acme")
    _reserve(small_office, 12)
    writer: LogWriter = (kept := KeptWriter())

    assert await LicenceGauges(small_office.database, writer, VirtualClock(NOW)).publish() == 1

    [record] = kept.records
    header = decode_header(record)
    assert (str(header.tenant), header.collector, header.lane) == ("acme/vendor", "vendor-billing", Lane.BILLING)
    assert (header.sequence, Tenant.parse("acme/vendor")) == (None, header.tenant)
    assert _values(record) == {
        "byoc_licence_capacity_vcpu": 16.0,
        "byoc_licence_used_vcpu": 12.0,
        "byoc_licence_used_ratio": 0.75,
        "byoc_licence_remaining_seconds": 30 * 86_400.0,
        "byoc_contract_remaining_seconds": 30 * 86_400.0,
    }


async def test_an_expired_licence_has_no_capacity_and_negative_time(small_office: Office) -> None:
    _licensed(small_office, "acme")
    _reserve(small_office, 12)
    kept = KeptWriter()

    await LicenceGauges(small_office.database, kept, VirtualClock(datetime(2027, 10, 2, tzinfo=UTC))).publish()

    assert _values(kept.records[0]) == {
        "byoc_licence_capacity_vcpu": 0.0,
        "byoc_licence_used_vcpu": 12.0,
        "byoc_licence_used_ratio": math.inf,
        "byoc_licence_remaining_seconds": -86_400.0,
        "byoc_contract_remaining_seconds": -86_400.0,
    }


async def test_a_log_that_is_away_skips_a_round_and_the_next_one_goes_on(small_office: Office) -> None:
    _licensed(small_office, "acme")
    clock, kept = VirtualClock(NOW), KeptWriter(failures=1)
    gauges = LicenceGauges(small_office.database, kept, clock, interval_seconds=15)
    task = asyncio.create_task(gauges.run())
    for _ in range(400):
        await clock.advance(15)
        await asyncio.sleep(0.005)  # the database answers from a thread
        if len(kept.records) >= 2:
            break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    first, second = (decode_header(record).received_ms for record in kept.records[:2])
    assert second - first >= 15_000
    assert kept.failures == 0


async def test_a_real_log_holds_them(small_office: Office) -> None:
    _licensed(small_office, "acme")
    log = MemoryLog(VirtualClock(NOW))
    await log.ensure_topics({LIVE_TOPIC: 2})
    writer, reader = await log.writer(), await log.reader("alerts", [LIVE_TOPIC])

    await LicenceGauges(small_office.database, writer, VirtualClock(NOW)).publish()

    [stored] = await reader.poll(10, 1.0)
    assert _values(Record(stored.key, stored.value, stored.headers))["byoc_licence_capacity_vcpu"] == 16.0
    await log.close()


@pytest.mark.parametrize(
    ("now", "capacity", "remaining_days"),
    [
        (datetime(2026, 9, 1, tzinfo=UTC), 0, 0),  # not valid yet
        (datetime(2027, 9, 30, tzinfo=UTC), 16, 1 + 366),  # the renewal follows without a gap
        (datetime(2028, 9, 30, tzinfo=UTC), 20, 1),
        (datetime(2028, 10, 3, tzinfo=UTC), 0, -2),
    ],
)
def test_validity_runs_on_through_a_renewal(
    small_office: Office, now: datetime, capacity: int, remaining_days: int
) -> None:
    _licensed(small_office, "acme")
    renewal = licence_text(valid=("2027-10-01", "2028-10-01"), vcpu=20).replace("acme-licence", "renewal")
    small_office.book.add_licence(renewal, "licence.yaml", "test")
    now_ms = VirtualClock(now).now_ms()

    [state] = small_office.database.transact(lambda connection: read_states(connection, now_ms))

    assert (state.capacity_milli_vcpu // 1000, state.remaining_ms // 86_400_000) == (capacity, remaining_days)


def test_terms_go_on_through_what_follows_and_each_row_of_contracts_is_told_by_its_first() -> None:
    def contract(name: str, start: str, end: str, more: str = "") -> Contract:
        return parse_contract(contract_text(contract=name, term=(start, end), more=more), name)

    step = "{start: 2026-10-01, model: {kind: per-unit, unit: '1'}}"
    charge = f"{{charge: help, description: Help, meter: hours, steps: [{step}]}}"
    alone = contract_text(contract="support", vcpu=0, on_demand=False, more=f"charges: [{charge}]\n")
    support = parse_contract(alone, "support")
    first = contract("aa", "2026-10-01", "2027-10-01")
    now_ms = VirtualClock(NOW).now_ms()

    def days(*contracts: Contract, at_ms: int = now_ms) -> dict[str, int]:
        return {one.contract: one.remaining_ms // 86_400_000 for one in terms_left(contracts, at_ms)}

    assert days(first, support) == {"aa": 30, "support": 30}
    renewed = contract("zz", "2027-10-01", "2028-10-01", "renews: aa\n")
    assert days(renewed, support, first) == {"aa": 396, "support": 30}
    taken_over = contract("bb", "2027-10-01", "2028-10-01")
    assert days(first, taken_over) == {"aa": 396}
    after_a_gap = contract("bb", "2027-11-01", "2028-10-01")
    assert days(first, after_a_gap) == {"aa": 30, "bb": 396}
    ended_ms = now_ms + 59 * 86_400_000
    assert days(first, at_ms=ended_ms) == {"aa": -29}
    assert days(first, at_ms=ended_ms + 86_400_000) == {}
