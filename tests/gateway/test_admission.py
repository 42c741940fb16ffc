"""What is remembered of a body's layout changes nothing of what is admitted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.errors import WireError
from collector.wire.snappy import compress, decompress_view
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.gateway.admission import Admission, Moment, admit
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.records import make_records
from metering.gateway.settings import TenantLimits
from metering.gateway.table import Layouts
from metering.gateway.tenants import TenantState
from metering.record import BatchHeader, Lane
from tests.effort import costly

TENANT = Tenant(OrganizationId("acme"), ProjectId("prod"))
NOW_MS, SERIES = 1_790_000_000_000, 12
HEADER = BatchHeader(TENANT, CollectorId("c"), Lane.BILLING, NOW_MS, "")
LIMITS = TenantLimits(active_series=8, active_series_seconds=60)
# Of few bodies, so that they come again: the order of the series, some refused (negative), some not in time.
bodies = st.lists(st.tuples(st.integers(-2, SERIES - 1), st.sampled_from([0, 0, 0, 10**9])), max_size=6)
courses = st.lists(bodies, min_size=1, max_size=3).flatmap(
    lambda some: st.lists(st.tuples(st.sampled_from(some), st.sampled_from([1, 30, 100])), max_size=8)
)


def new_state() -> TenantState:
    state = TenantState(TENANT, LIMITS, 0.0)
    for number in range(SERIES):
        state.table.number((("__name__", f"m{number}"),))
    return state


def told(admission: Admission) -> object:
    batch = admission.batch
    rows = batch.numbers.tolist(), batch.timestamps_ms.tolist(), batch.series().tolist()
    return rows, dict(+admission.refused), admission.claims


@given(courses)
@costly(100)
def test_a_body_that_came_before_is_admitted_like_one_that_did_not(
    course: list[tuple[list[tuple[int, int]], int]],
) -> None:
    remembering, forgetting = new_state(), new_state()
    now = 0.0
    for rows, seconds in course:
        now += seconds
        found = []
        for state in (remembering, forgetting):
            times = np.array([NOW_MS + late for _, late in rows], np.int64)
            pushed = Pushed(np.array([number for number, _ in rows], np.int32), times, np.zeros(len(rows)))
            admission = admit(pushed, state, Moment(NOW_MS, now), whole=False)
            values = [record.value for record in make_records(HEADER, admission.batch, 900_000)]
            found.append((told(admission), len(state.active), values))
        forgetting.table.layouts = Layouts()
        assert found[0] == found[1]


def test_what_is_decompressed_to_look_at_is_this_body_and_no_other() -> None:
    """The room is used again: whatever was in it before is neither seen nor read."""
    for content in (b"a" * 1000, b"bc", b"", b"d" * 5_000_000, b"e"):
        assert bytes(decompress_view(compress(content), 2**30)) == content
    for broken in (b"\x08\x05\x01\x00", compress(b"f" * 100)[:-1], b"\xe8\x07" + compress(b"g")[1:]):
        try:
            found = bytes(decompress_view(broken, 2**30))
        except WireError:
            continue
        raise AssertionError(found)
