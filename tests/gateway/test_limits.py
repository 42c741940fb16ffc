"""Buckets, active series, and cutting a batch: the pure parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.model import Labels
from kernel.log import RecordTooLarge
from kernel.settings import documented_fields
from kernel.window import DAY_MS
from metering.gateway.active import ActiveSeries
from metering.gateway.buckets import KeyedBuckets, TokenBucket, retry_after
from metering.gateway.foreign.pushed import PushedHistogram
from metering.gateway.frame_rules import SAMPLES_PER_DAY_FILE
from metering.gateway.records import Batch, make_records
from metering.gateway.remote_write import cost_of
from metering.gateway.series import CheckedSeries, check_series, plain_canonical
from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.gateway.table import SeriesTable
from metering.gateway.tenants import Tenants, TenantState
from metering.record import (
    BatchHeader,
    Lane,
    decode_batch,
    decode_samples,
    parse_canonical_labels,
)
from metering.record import Sequence as PushSequence
from metering.samples import ExemplarRow
from tests.effort import costly
from tests.identity.world import ACME, COLLECTOR

HEADER = BatchHeader(ACME, COLLECTOR, Lane.BILLING, 0, "0" * 64, PushSequence(1, 2, 3), 99)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), max_size=40))
def test_a_bucket_never_lets_more_through_than_its_rate_and_burst(steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket.full(5, 20, 0.0), 0.0, 0
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now) == 0:
            taken += amount
    assert taken <= 20 + 5 * now + 50  # one push may be larger than the burst, once the bucket is full


def test_a_push_larger_than_the_burst_passes_and_leaves_a_debt() -> None:
    bucket = TokenBucket.full(10, 20, 0.0)
    assert bucket.take(100, 0.0) == 0
    assert bucket.take(1, 0.0) == pytest.approx(8.1)
    assert bucket.take(1, 8.2) == 0


def test_a_bucket_does_not_fill_when_time_steps_back() -> None:
    bucket = TokenBucket.full(1, 1, 10.0)
    assert bucket.take(1, 10.0) == 0
    assert bucket.take(1, 5.0) > 0


def test_keyed_buckets_forget_the_oldest() -> None:
    buckets = KeyedBuckets(1, 1, max_keys=2)
    assert [buckets.take(key, 0.0) for key in ("a", "b", "c")] == [0, 0, 0]
    assert buckets.take("c", 0.0) > 0
    assert buckets.take("a", 0.0) == 0


def test_a_queue_lets_a_burst_through_and_then_so_many_a_second() -> None:
    buckets = KeyedBuckets(10, 2)
    assert [buckets.queue("a", 0.0) for _ in range(4)] == pytest.approx([0, 0, 0.1, 0.2])
    assert buckets.queue("b", 0.0) == 0
    assert buckets.queue("a", 0.15) == pytest.approx(0.15)


@given(st.floats(0, 1e6))
def test_retry_after_is_a_positive_bounded_number_of_seconds(seconds: float) -> None:
    assert 1 <= int(retry_after(seconds)) <= 300


def test_retry_after_is_spread() -> None:
    assert len({retry_after(100) for _ in range(200)}) > 10


def table_of(names: Iterable[int]) -> SeriesTable:
    table = SeriesTable(ACME, TenantLimits())
    for name in names:
        table.number((("__name__", f"m{name}"),))
    return table


def test_active_series_never_exceed_their_limit_and_leave_after_a_while() -> None:
    active, table = ActiveSeries(lambda wanted: min(wanted, 3), window_seconds=60), table_of(range(7))

    def without_room(numbers: list[int], now: float) -> list[int]:
        return list(active.without_room(table, np.array(numbers), now).tolist())

    assert without_room([1, 2], 0) == []
    active.touch(np.array([1, 2]), 0)
    assert without_room([1, 2, 3, 4], 30) == [4]
    active.touch(np.array([1, 3]), 30)
    assert without_room([5, 6], 59) == [5, 6]
    assert without_room([5], 65) == [5]  # swept six seconds ago
    assert without_room([5, 6], 75) == [6]
    active.touch(np.array([5]), 75)
    assert len(active) == 3


def test_series_stay_active_when_their_numbers_are_given_up() -> None:
    active, table = ActiveSeries(lambda wanted: min(wanted, 3), window_seconds=60), table_of(range(3))
    assert active.without_room(table, np.arange(3), 0).tolist() == []
    active.touch(np.arange(3), 0)
    active.leave(table)
    assert len(active) == 3
    after = table_of([5, 2, 1, 0])
    assert active.without_room(after, np.arange(4), 30).tolist() == [0], "the others are known"
    active.touch(np.array([1]), 30)
    assert len(active) == 3
    active.leave(after)
    assert active.without_room(table_of([7, 8, 9]), np.arange(3), 70).tolist() == [2], "two have been silent"


def test_a_silent_tenant_is_forgotten() -> None:
    tenants = Tenants(TenantLimits(active_series_seconds=60))
    tenants.state(ACME, 0)
    tenants.forget_silent(60)
    assert len(tenants) == 1
    tenants.forget_silent(61)
    assert len(tenants) == 0


def test_remembered_series_stay_within_their_memory() -> None:
    state = TenantState(ACME, TenantLimits(series_cache_bytes=20_000), 0)
    sizes = set()
    for number in range(1000):
        state.table.number((("__name__", f"m{number}"),))
        state.trim()
        sizes.add(len(state.table))
    assert 10 < max(sizes) < 60
    assert state.table.size_bytes <= 20_000


label_sets = st.lists(
    st.tuples(st.sampled_from(["__name__", "a", "organization", "project", ""]), st.text(max_size=5)), max_size=5
).map(tuple)


@given(label_sets)
@settings(max_examples=200)
def test_whatever_is_accepted_is_in_the_tenants_own_name(labels: tuple[tuple[str, str], ...]) -> None:
    checked = check_series(labels, ACME, TenantLimits())
    assert (checked.canonical is None) == (checked.refusal is not None)
    if checked.canonical is not None:
        found = dict(parse_canonical_labels(checked.canonical))
        assert (found["organization"], found["project"]) == ("acme", "prod")
        assert found["__name__"]
        assert {name: value for name, value in labels if value and name not in {"organization", "project"}} == {
            name: value for name, value in found.items() if name not in {"organization", "project"}
        }


parts = st.text(max_size=5).map(str.encode) | st.binary(max_size=5) | st.sampled_from([b"a" * 20, b"\xc3", b"\xa9"])
pairs = st.lists(
    st.tuples(st.sampled_from([b"__name__", b"a", b"b", b"organization", b"q", b"zz"]) | parts, parts), max_size=6
)


@given(pairs, st.booleans())
@costly(400)
def test_a_plain_series_is_what_a_close_look_says(sent: list[tuple[bytes, bytes]], is_sorted: bool) -> None:
    limits = TenantLimits().model_copy(
        update={"label_name_bytes": 16, "label_value_bytes": 18, "series_bytes": 100}
    )
    pairs = sorted(sent) if is_sorted else sent
    canonical = plain_canonical([part for pair in pairs for part in pair], ACME, limits)
    if canonical is not None:
        labels = tuple((name.decode(), value.decode()) for name, value in pairs)
        assert check_series(labels, ACME, limits) == CheckedSeries(canonical)


def test_good_senders_series_are_plain() -> None:
    sent = [b"__name__", b"up", b"instance", b"a:1", b"job", "é".encode(), b"zone", b"z"]
    canonical = plain_canonical(sent, ACME, TenantLimits())
    assert canonical is not None
    assert dict(parse_canonical_labels(canonical))["organization"] == "acme"


def batch_of(rows: Sequence[tuple[Labels, int, float]], table: SeriesTable | None = None) -> Batch:
    table = table or SeriesTable(ACME, TenantLimits())
    numbers = np.array([table.number(labels) for labels, _, _ in rows], np.int32)
    times = np.array([time for _, time, _ in rows], np.int64)
    return Batch(table, numbers, times, np.array([value for _, _, value in rows], np.float64))


@given(st.integers(0, 300), st.integers(1, 40), st.integers(9_000, 20_000), st.integers(0, 600))
@settings(max_examples=60, deadline=None)
def test_parts_tile_the_batch_and_fit(samples: int, series: int, limit: int, others: int) -> None:
    """However many series the tenant has beside: what the process remembers does not change the cut."""
    rows = [((("__name__", f"metric_{n % series}" * 10),), n, float(n)) for n in range(samples)]
    table = SeriesTable(ACME, TenantLimits())
    for number in range(others):
        table.number((("__name__", f"other_{number}"),))
    records = make_records(HEADER, batch_of(rows, table), limit)
    batches = [decode_batch(record.value) for record in records]
    assert [t for batch in batches for t in batch.timestamps_ms.tolist()] == list(range(samples))
    names = [dict(parse_canonical_labels(batch.series[slot])) for batch in batches for slot in batch.series_index]
    assert [name["__name__"] for name in names] == [labels[0][1] for labels, _, _ in rows]
    for record in records:
        size = len(record.value) + len(record.key) + sum(len(k) + len(v) for k, v in record.headers.items())
        assert size <= limit
    assert [record.headers["sequence"] for record in records] == [
        f"1.2.{3 * 4096 + part}".encode() for part in range(len(records))
    ]
    assert ["complete_through_ms" in record.headers for record in records] == [False] * (len(records) - 1) + [True]
    again = make_records(HEADER, batch_of(rows), limit)
    assert [decode_batch(one.value).timestamps_ms.tolist() for one in again] == [
        batch.timestamps_ms.tolist() for batch in batches
    ]


def test_series_that_come_again_come_in_the_same_pages() -> None:
    table = SeriesTable(ACME, TenantLimits())
    rows = [((("__name__", f"metric_{n}"),), n, float(n)) for n in range(1000)]
    first = decode_samples(make_records(HEADER, batch_of(rows, table), 10**6)[0].value)
    later = decode_samples(make_records(HEADER, batch_of(rows[128:640], table), 10**6)[0].value)
    assert [page.name for page in later.pages] == [page.name for page in first.pages[1:5]]
    few = decode_samples(make_records(HEADER, batch_of(rows[::100], table), 10**6)[0].value)
    assert few.series_count == 10, "no whole page for a few of its series"


def test_histograms_and_exemplars_are_cut_like_samples() -> None:
    batch = batch_of([((("__name__", f"m{n}"),), n, 0.0) for n in range(50)])
    batch = replace(
        batch,
        histograms=[PushedHistogram(n % 50, n, bytes([n]) * 100) for n in range(200)],
        exemplars=[ExemplarRow(n % 50, float(n), n, b"trace_id\xffx\xff") for n in range(70)],
    )
    records = [decode_samples(record.value) for record in make_records(HEADER, batch, 10_000)]
    assert len(records) > 2
    assert [row.message for part in records for row in part.histograms] == [bytes([n]) * 100 for n in range(200)]
    assert [row.value for part in records for row in part.exemplars] == [float(n) for n in range(70)]
    labels = [[labels for page in part.pages for labels in page.labels()] for part in records]
    names = [
        dict(parse_canonical_labels(named[row.index]))["__name__"]
        for part, named in zip(records, labels, strict=True)
        for row in part.histograms
    ]
    assert names == [f"m{n % 50}" for n in range(200)]


@given(st.integers(0, 400), st.integers(1, 60), st.integers(7_000, 30_000), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_foreign_push_makes_records_that_fit_and_hold_all_of_it(
    samples: int, series: int, limit: int, histograms: int
) -> None:
    """Twice: what was kept of the first changes nothing in the second."""
    rows = [((("__name__", f"metric_{n % series}" * 10),), n, float(n)) for n in range(samples)]
    table = SeriesTable(ACME, TenantLimits())
    batch = batch_of(rows, table)
    if samples:
        batch = replace(
            batch, histograms=[PushedHistogram(n % min(samples, series), n, b"h" * 90) for n in range(histograms)]
        )
    for _ in range(2):
        records = make_records(replace(HEADER, sequence=None), batch, limit)
        found = [decode_samples(record.value) for record in records]
        assert [t for part in found for t in part.timestamps_ms.tolist()] == list(range(samples))
        assert sum(len(part.histograms) for part in found) == len(batch.histograms)
        labels = [[labels for page in part.pages for labels in page.labels()] for part in found]
        names = [
            dict(parse_canonical_labels(named[index]))["__name__"]
            for part, named in zip(found, labels, strict=True)
            for index in part.series_index.tolist()
        ]
        assert names == [sent[0][1] for sent, _, _ in rows]
        for record in records:
            size = len(record.value) + len(record.key) + sum(len(k) + len(v) for k, v in record.headers.items())
            assert size <= limit


def test_a_foreign_push_of_ten_thousand_series_is_one_record() -> None:
    rows = [((("__name__", f"metric_{n}"), ("pod", "p" * 100)), n, float(n)) for n in range(10_000)]
    batch = batch_of(rows)
    assert len(make_records(HEADER, batch, 900_000)) > 1
    assert len(make_records(replace(HEADER, sequence=None), batch, 900_000)) == 1


def test_a_single_sample_that_fits_no_record_is_refused() -> None:
    with pytest.raises(RecordTooLarge):
        make_records(HEADER, batch_of([((("__name__", "m"), ("a", "x" * 4000)), 1, 1.0)]), 7_000)


def test_incompressible_batches_fit_too() -> None:
    """The bound is on uncompressed sizes; noise must not grow over it."""
    noise = np.random.default_rng(7)
    count = 40_000
    batch = replace(
        batch_of([((("__name__", "up"),), 0, 0.0)]),
        numbers=np.zeros(count, np.int32),
        timestamps_ms=noise.integers(-(2**63), 2**63 - 1, count),
        values=noise.integers(0, 2**63 - 1, count).view(np.float64),
    )
    for limit in (20_000, 100_000, 1_000_000):
        assert all(len(record.value) < limit for record in make_records(HEADER, batch, limit))


def test_every_setting_is_documented() -> None:
    for name, description, _ in documented_fields(GatewaySettings):
        assert description, name
        assert len(description) > 30, name


def test_a_day_costs_what_its_file_costs() -> None:
    """A scrape costs its samples; one sample on each of 400 days costs 399 files more."""
    scrape = batch_of([((("__name__", str(number)),), 1_000, 1.0) for number in range(5)])
    assert cost_of(scrape) == 5
    scattered = batch_of([((("__name__", "b"),), day * DAY_MS, 1.0) for day in range(400)])
    assert cost_of(scattered) == 400 + 399 * SAMPLES_PER_DAY_FILE
    assert cost_of(batch_of([])) == 0
