"""The head: what it takes, what it refuses, and that nobody sees what is another's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import StoredRecord
from metering.promql.api import Head, HeadLimits, Publisher, Reason, evaluate, parse_expression
from metering.promql.organization import OrganizationHead
from metering.record import LIVE_TOPIC, BatchHeader, Lane, SampleBatch, canonical_labels, encode_record, make_batch
from tests.promql.samples import BASE_MS, TENANT, Row, dataset, fill, labels

OTHER = Tenant(OrganizationId("org-b"), ProjectId("project-1"))
HEADER = BatchHeader(TENANT, CollectorId("collector-1"), Lane.BILLING, BASE_MS, "")


def stored(header: BatchHeader, rows: list[Row]) -> StoredRecord:
    record = encode_record(header, make_batch(rows))
    return StoredRecord(LIVE_TOPIC, 0, 0, BASE_MS, record.key, record.value, record.headers)


def ask(head: Head, expression: str, tenant: Tenant = TENANT, at_ms: int = BASE_MS) -> list[float]:
    vector = evaluate(parse_expression(expression), head.source(tenant.organization), at_ms)
    return sorted(value for _, value in vector.elements())


def test_a_tenant_is_who_its_header_says() -> None:
    head = Head(HeadLimits())
    head.ingest(stored(HEADER, [(labels("x"), BASE_MS, 1.0)]))
    head.ingest(stored(replace(HEADER, tenant=OTHER), [(labels("x"), BASE_MS, 2.0)]))
    assert ask(head, "x") == [1.0]
    assert ask(head, "x", OTHER) == [2.0]
    assert ask(head, 'x{organization="org-b"}') == []


def test_a_series_that_claims_another_organization_is_refused() -> None:
    head = Head(HeadLimits())
    head.ingest(stored(HEADER, [(labels("x", organization="org-b"), BASE_MS, 1.0)]))
    assert ask(head, "x") == []
    assert head.refused[Reason.FOREIGN_LABEL] == 1


def test_a_reserved_metric_is_taken_from_its_publisher_alone() -> None:
    billing = Publisher(ProjectId("vendor"), CollectorId("vendor-billing"))
    head = Head(HeadLimits(), reserved={"byoc_licence_": billing})
    vendor = replace(HEADER, tenant=Tenant(TENANT.organization, billing.project), collector=billing.collector)
    gauge = labels("byoc_licence_used_ratio", organization="org-a")
    head.ingest(stored(vendor, [(gauge, BASE_MS, 1.2)]))
    head.ingest(stored(replace(HEADER, received_ms=BASE_MS + 60_000), [(gauge, BASE_MS + 60_000, 0.0)]))
    assert ask(head, "byoc_licence_used_ratio", at_ms=BASE_MS + 60_000) == [1.2]
    assert head.refused[Reason.RESERVED] == 1


def test_history_is_not_evaluated() -> None:
    head = Head(HeadLimits())
    assert head.ingest(stored(replace(HEADER, lane=Lane.HISTORY), [(labels("x"), BASE_MS, 1.0)])) == 0
    assert ask(head, "x") == []


def test_a_record_read_again_changes_nothing() -> None:
    head, rows = Head(HeadLimits()), dataset()
    header = replace(HEADER, received_ms=max(row[1] for row in rows))
    assert head.ingest(stored(header, rows)) == len(rows)
    assert head.ingest(stored(header, rows)) == 0
    assert head.refused[Reason.OUT_OF_ORDER] == len(rows)


def test_only_the_metrics_that_rules_read_are_kept() -> None:
    head = Head(HeadLimits(), metrics=frozenset({"x"}))
    head.ingest(stored(HEADER, [(labels("x"), BASE_MS, 1.0), (labels("xy"), BASE_MS, 1.0)]))
    assert head.series == 1


def test_a_second_collector_of_a_series_waits_until_the_first_is_silent() -> None:
    """Interleaved, the two counters would look like resets."""
    head = Head(HeadLimits())
    second = CollectorId("collector-2")
    for step in range(6):
        now = BASE_MS + step * 10_000
        head.ingest(stored(replace(HEADER, received_ms=now), [(labels("x"), now, 1000.0 + step)]))
        late = replace(HEADER, received_ms=now, collector=second)
        head.ingest(stored(late, [(labels("x"), now + 5, 10.0 + step)]))
    assert ask(head, "min_over_time(x[10m])", at_ms=BASE_MS + 60_000) == [1000.0]
    now = BASE_MS + 90_000
    head.ingest(stored(replace(HEADER, received_ms=now, collector=second), [(labels("x"), now, 17.0)]))
    assert ask(head, "x", at_ms=now) == [17.0]


def test_limits_refuse_new_series_and_leave_the_known_alone() -> None:
    head = Head(HeadLimits(series=2))
    head.ingest(stored(HEADER, [(labels("x", i=str(i)), BASE_MS, float(i)) for i in range(5)]))
    head.ingest(stored(HEADER, [(labels("x", i="0"), BASE_MS + 1, 9.0)]))
    assert ask(head, "x", at_ms=BASE_MS + 1) == [1.0, 9.0]
    assert head.refused[Reason.SERIES_LIMIT] == 3


def test_one_tenants_flood_leaves_the_other_its_memory() -> None:
    head = Head(HeadLimits(bytes=2_000_000))
    flood = [(labels("x", i=str(i)), BASE_MS, 1.0) for i in range(20_000)]
    head.ingest(stored(replace(HEADER, tenant=OTHER), flood))
    head.ingest(stored(HEADER, [(labels("x"), BASE_MS, 1.0)]))
    assert head.refused[Reason.BYTES_LIMIT] > 0
    assert ask(head, "x") == [1.0]
    assert head.source(OTHER.organization).allocated_bytes <= 2_000_000


def test_memory_for_samples_is_bounded_too() -> None:
    """At the limit the oldest sample gives way; the newest is always there."""
    head = fill(
        [(labels("x", i=str(i)), BASE_MS + t * 10, float(t)) for t in range(500) for i in range(40)],
        HeadLimits(bytes=120_000),
    )
    assert head.allocated_bytes <= 120_000
    vector = evaluate(parse_expression("x"), head, BASE_MS + 5000)
    assert [value for _, value in vector.elements()] == [499.0] * 40


def test_a_sample_from_the_future_does_not_block_its_series() -> None:
    head = Head(HeadLimits())
    head.ingest(stored(HEADER, [(labels("x"), BASE_MS + 86_400_000, 1.0)]))
    head.ingest(stored(HEADER, [(labels("x"), BASE_MS, 2.0)]))
    assert ask(head, "x") == [2.0]
    assert head.refused[Reason.FUTURE] == 1


def test_a_silent_series_leaves_and_its_place_is_used_again() -> None:
    head = Head(HeadLimits(retention_ms=600_000))
    for day in range(50):
        now = BASE_MS + day * 700_000
        head.ingest(stored(replace(HEADER, received_ms=now), [(labels("x", pod=str(day)), now, float(day))]))
        head.expire(now)
        assert head.series == 1
        assert ask(head, "x", at_ms=now) == [float(day)]
    assert head.allocated_bytes < 20_000


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 400)), min_size=1, max_size=300))
def test_rings_answer_as_lists_would(pushes: list[tuple[int, int]]) -> None:
    """Any mix of series and gaps, growing rings and all: the window holds what a plain list says."""
    rows: list[Row] = []
    now = BASE_MS
    for series, gap in pushes:
        now += gap
        rows.append((labels("x", i=str(series)), now, float(now - BASE_MS)))
    head = fill(rows)
    for at_ms in (BASE_MS + (now - BASE_MS) // 2, now):
        vector = evaluate(parse_expression("sum_over_time(x[20s])"), head, at_ms)
        found = {dict(series)["i"]: value for series, value in vector.elements()}
        expected: dict[str, float] = {}
        for series_labels, time_ms, value in rows:
            if at_ms - 20_000 < time_ms <= at_ms:
                name = dict(series_labels)["i"]
                expected[name] = expected.get(name, 0.0) + value
        assert found == expected


def test_what_a_restarted_process_knew_does_not_overwrite_newer_news() -> None:
    head = Head(HeadLimits())
    head.ingest(stored(replace(HEADER, complete_through_ms=BASE_MS), [(labels("x"), BASE_MS, 1.0)]))
    [progress] = head.progress(TENANT.organization)
    head.restore(replace(progress, received_ms=BASE_MS - 1000, complete_through_ms=None))
    assert list(head.progress()) == [progress]
    assert (progress.received_ms, progress.complete_through_ms) == (BASE_MS, BASE_MS)


@pytest.mark.parametrize("value", [b"", b"nonsense"])
def test_a_record_that_is_none_is_a_dead_letter(value: bytes) -> None:
    from kernel.errors import DeadLetter

    record = stored(HEADER, [(labels("x"), BASE_MS, 1.0)])
    with pytest.raises(DeadLetter):
        Head(HeadLimits()).ingest(replace(record, value=value))


def test_an_empty_batch_is_fine() -> None:
    assert Head(HeadLimits()).ingest_batch(HEADER, make_batch([])) == 0
    assert np.array_equal(make_batch([]).values, [])


def test_a_label_whose_value_says_name_hides_no_metric() -> None:
    """Found by an attack: the name was looked for by its bytes, and a value in front of it has the same."""
    labels = (
        ("A", "__name__"),
        ("ALERTS", "1"),
        ("__name__", "byoc_licence_used_ratio"),
        ("organization", "org-a"),
    )
    canonical = canonical_labels(labels)
    batch = SampleBatch((canonical,), np.zeros(1, np.int32), np.array([BASE_MS]), np.array([0.0]))
    for metrics in (None, frozenset({"ALERTS", "byoc_licence_used_ratio"})):
        refused: Counter[Reason] = Counter()
        head = OrganizationHead(OrganizationId("org-a"), HeadLimits(), metrics, ("byoc_licence_",), refused)
        assert head.ingest(batch, CollectorId("tenants-own"), BASE_MS, ("byoc_licence_",)) == 0
        assert refused[Reason.RESERVED] == 1
        assert head.ingest(batch, CollectorId("vendors-own"), BASE_MS) == 1
        head.expire(BASE_MS + 10**9)  # it failed to find the series again, and the evaluation of all ended
        assert len(head) == 0
