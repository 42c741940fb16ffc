"""Licence capacity: what is admitted, what is refused and why, and that it is never oversold."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.api import CapacityRefused, LicenceCapacity
from billing.models import reservations
from kernel.clock import VirtualClock, from_ms
from kernel.database import Database
from kernel.errors import Refuse
from kernel.ids import JobId, OrganizationId
from tests.billing.deals import ACME, Office, contract_text, licence_text
from tests.billing.reserving_process import reserve
from tests.effort import costly

JOB = JobId("job-one")


class Desk:
    """Capacity on one database, at a moment that the test moves."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.clock = VirtualClock(datetime(2026, 11, 3, tzinfo=UTC))
        self.capacity = LicenceCapacity(self.clock)

    def licence(self, *, on_demand: bool = False, **licence: object) -> None:
        self.office.book.add_contract(contract_text(on_demand=on_demand), "contract.yaml", "test")
        self.office.book.add_licence(licence_text(**licence), "licence.yaml", "test")  # type: ignore[arg-type]

    def reserve(self, subject: str, vcpu: int) -> None:
        self.office.database.transact(
            lambda connection: self.capacity.reserve(connection, ACME, subject, vcpu * 1000, JOB)
        )

    def release(self, subject: str, vcpu: int) -> None:
        self.office.database.transact(
            lambda connection: self.capacity.release(connection, ACME, subject, vcpu * 1000)
        )

    @property
    def held(self) -> int:
        return self.office.database.transact(lambda connection: self.capacity.held(connection, ACME)) // 1000

    def go_to(self, year: int, month: int, day: int) -> None:
        target = datetime(year, month, day, tzinfo=UTC)
        self.clock.step_wall((target - from_ms(self.clock.now_ms())).total_seconds())


@pytest.fixture
def desk(small_office: Office) -> Desk:
    return Desk(small_office)


def test_what_fits_is_admitted_and_the_rest_refused_with_the_figures(desk: Desk) -> None:
    desk.licence()
    desk.reserve("c1", 10)
    desk.reserve("c2", 6)

    with pytest.raises(CapacityRefused) as refused:
        desk.reserve("c3", 1)

    assert isinstance(refused.value, Refuse)
    for figure in ("c3 asks for 1 vCPU", "16 licensed", "16 are held by others", "no on-demand"):
        assert figure in str(refused.value)
    assert desk.held == 16


def test_a_scale_up_counts_what_the_cluster_holds_already(desk: Desk) -> None:
    desk.licence()
    desk.reserve("c1", 10)

    desk.reserve("c1", 16)
    with pytest.raises(CapacityRefused):
        desk.reserve("c1", 17)

    assert desk.held == 16


def test_what_shrinks_is_held_until_it_is_released(desk: Desk) -> None:
    desk.licence()
    desk.reserve("c1", 12)

    desk.reserve("c1", 4)
    assert desk.held == 12
    with pytest.raises(CapacityRefused):
        desk.reserve("c2", 8)

    desk.release("c1", 4)
    desk.release("c1", 4)
    desk.release("c1", 40)  # a release never raises what is held
    desk.reserve("c2", 8)
    assert desk.held == 12
    desk.release("c1", 0)
    desk.release("c1", 0)
    assert desk.held == 8


def test_with_on_demand_more_than_the_licence_is_admitted(desk: Desk) -> None:
    desk.licence(on_demand=True)
    desk.reserve("c1", 40)
    assert desk.held == 40


@pytest.mark.parametrize("on_demand", [False, True])
def test_an_expired_licence_lets_nothing_grow_and_everything_shrink(desk: Desk, on_demand: bool) -> None:
    desk.licence(on_demand=on_demand)
    desk.reserve("c1", 10)
    desk.go_to(2027, 10, 1)

    for subject, vcpu in (("c1", 11), ("c2", 1)):
        with pytest.raises(CapacityRefused, match="acme-licence expired on 2027-10-01; renew it"):
            desk.reserve(subject, vcpu)
    desk.reserve("c1", 5)
    desk.reserve("c1", 10)
    desk.release("c1", 0)
    assert desk.held == 0


def test_a_licence_that_is_not_valid_yet(desk: Desk) -> None:
    desk.licence()
    desk.go_to(2026, 9, 30)
    with pytest.raises(CapacityRefused, match="not valid before 2026-10-01"):
        desk.reserve("c1", 1)


def test_no_licence_at_all(desk: Desk) -> None:
    with pytest.raises(CapacityRefused, match="byoc licence add"):
        desk.reserve("c1", 1)


def test_an_amendment_holds_from_its_date(desk: Desk) -> None:
    contract = contract_text(on_demand=False).replace(
        "vcpu: 16}\n", "vcpu: 16}\n  - {start: 2026-12-01, vcpu: 24}\n"
    )
    desk.office.book.add_contract(contract, "contract.yaml", "test")
    desk.office.book.add_licence(licence_text(), "licence.yaml", "test")
    amended = licence_text(more="version: 2\n").replace(
        "vcpu: 16}\n", "vcpu: 16}\n  - {start: 2026-12-01, vcpu: 24}\n"
    )
    desk.office.book.add_licence(amended, "licence.yaml", "test")

    with pytest.raises(CapacityRefused):
        desk.reserve("c1", 20)
    desk.go_to(2026, 12, 1)
    desk.reserve("c1", 20)


def test_a_reservation_falls_with_its_transaction(desk: Desk) -> None:
    desk.licence()

    def reserve_and_fail(connection: sa.Connection) -> None:
        desk.capacity.reserve(connection, ACME, "c1", 16_000, JOB)
        raise RuntimeError("the job could not be stored")

    with pytest.raises(RuntimeError):
        desk.office.database.transact(reserve_and_fail)
    assert desk.held == 0


def test_eight_threads_reserve_at_once_and_what_fits_is_admitted(office: Office) -> None:
    Desk(office).licence(vcpu=10)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(partial(reserve, office.database), (f"c{index}" for index in range(8))))

    assert sorted(outcomes) == ["admitted"] * 2 + ["refused"] * 6
    assert Desk(office).held == 10


@pytest.mark.slow
def test_two_processes_of_four_threads_reserve_at_once_and_what_fits_is_admitted(office: Office) -> None:
    Desk(office).licence(vcpu=10)
    url = office.database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.billing.reserving_process", url]

    started = [subprocess.Popen([*command, f"p{index}"], stdout=subprocess.PIPE, text=True) for index in range(2)]
    outcomes = "".join(process.communicate(timeout=60)[0] for process in started).split()

    assert sorted(outcomes) == ["admitted"] * 2 + ["refused"] * 6
    assert Desk(office).held == 10


@costly(25, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from(["c1", "c2", "c3"]), st.integers(0, 12)), max_size=15)
)
def test_any_order_of_reservations_stays_within_the_licence(
    licensed: Database, steps: list[tuple[bool, str, int]]
) -> None:
    office = Office(licensed)
    desk = Desk(office)
    office.database.transact(lambda connection: connection.execute(sa.delete(reservations)))
    expected: dict[str, int] = {}
    for reserving, subject, vcpu in steps:
        if not reserving:
            desk.release(subject, vcpu)
            expected[subject] = min(expected.get(subject, 0), vcpu)
            continue
        fits = sum(expected.values()) - expected.get(subject, 0) + vcpu <= 16
        if vcpu > expected.get(subject, 0) and not fits:
            with pytest.raises(CapacityRefused):
                desk.reserve(subject, vcpu)
        else:
            desk.reserve(subject, vcpu)
            expected[subject] = max(expected.get(subject, 0), vcpu)
        assert desk.held == sum(expected.values()) <= 16


@pytest.fixture
def licensed(small_office: Office) -> Database:
    Desk(small_office).licence()
    return small_office.database


def test_organizations_do_not_see_each_other(desk: Desk) -> None:
    desk.licence()
    desk.reserve("c1", 16)
    with pytest.raises(CapacityRefused, match="there is no licence"):
        desk.office.database.transact(
            lambda connection: desk.capacity.reserve(connection, OrganizationId("other"), "c1", 1, JOB)
        )
