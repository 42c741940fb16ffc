"""The head reads frames: the same samples as from any other record, and no work for what is not asked about."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest

from collector.wire.frames import join_blocks
from kernel.errors import DeadLetter
from kernel.ids import CollectorId, ProjectId, Tenant
from kernel.log import StoredRecord
from metering.promql.api import Head, HeadLimits, Publisher, Reason, evaluate, parse_expression
from metering.record import LIVE_TOPIC, BatchHeader, Lane, RecordFormat, Sequence, record_key, render_header
from tests.promql.samples import BASE_MS, TENANT
from tests.wire.frames.world import Target, entry

A, B = entry("x", i="a"), entry("x", i="b")
HEADER = BatchHeader(
    TENANT, CollectorId("collector-1"), Lane.BILLING, BASE_MS, "", Sequence(1, 1), format=RecordFormat.FRAMES
)


@dataclass
class Sender:
    """A collector with one target: its scrapes as records."""

    header: BatchHeader = HEADER
    target: Target = field(default_factory=lambda: Target(now_ms=BASE_MS))
    offsets: itertools.count[int] = field(default_factory=itertools.count)

    def send(
        self,
        values: dict[bytes, float],
        group: int = 1,
        through_ms: int | None = None,
        kept: tuple[bytes, ...] = (),
    ) -> StoredRecord:
        tick, _ = self.target.scrape(values, kept=kept)
        blocks = self.target.encoder.encode(tick, group)
        offset = next(self.offsets)
        header = replace(
            self.header,
            sequence=Sequence(1, offset + 1),
            received_ms=tick.at_ms,
            complete_through_ms=through_ms,
        )
        headers = render_header(header, sum(block.samples for block in blocks))
        value = join_blocks(group, blocks)
        return StoredRecord(LIVE_TOPIC, 0, offset, tick.at_ms, record_key(header), value, headers)


def ask(head: Head, expression: str, at_ms: int, tenant: Tenant = TENANT) -> list[float]:
    vector = evaluate(parse_expression(expression), head.source(tenant.organization), at_ms)
    return sorted(value for _, value in vector.elements())


def test_samples_of_frames_are_those_of_the_target_in_the_tenants_name() -> None:
    head, sender = Head(HeadLimits()), Sender()
    for turn in range(10):
        assert head.ingest(sender.send({A: float(turn), B: 0.5 * turn})) == 2
    now = sender.target.now_ms
    assert ask(head, "x", now) == [4.5, 9.0]
    assert ask(head, 'sum_over_time(x{i="a",organization="org-a",project="project-1"}[1m])', now) == [45.0]


def test_a_series_that_goes_gets_its_stale_marker_and_its_slot_a_new_series() -> None:
    head, sender = Head(HeadLimits()), Sender()
    head.ingest(sender.send({A: 1.0}))
    head.ingest(sender.send({B: 2.0}))
    assert ask(head, "x", sender.target.now_ms) == [2.0]
    assert ask(head, 'x{i="b"}', sender.target.now_ms) == [2.0]


def test_only_the_metrics_that_rules_read_are_kept() -> None:
    head, sender = Head(HeadLimits(), metrics=frozenset({"x"})), Sender()
    for turn in range(3):
        assert head.ingest(sender.send({A: float(turn), entry("y"): 1.0})) == 1
    assert head.series == 1


def test_a_reserved_metric_is_not_taken_from_frames() -> None:
    billing = Publisher(ProjectId("vendor"), CollectorId("vendor-billing"))
    head, sender = Head(HeadLimits(), reserved={"byoc_licence_": billing}), Sender()
    assert head.ingest(sender.send({entry("byoc_licence_used_ratio"): 0.0, A: 1.0})) == 1
    assert head.refused[Reason.RESERVED] == 1


def test_a_record_read_again_changes_nothing() -> None:
    head, sender = Head(HeadLimits()), Sender()
    records = [sender.send({A: float(turn)}) for turn in range(4)]
    for record in records:
        head.ingest(record)
    assert head.ingest(records[-1]) == 0
    assert head.refused[Reason.OUT_OF_ORDER] == 1
    assert ask(head, "sum_over_time(x[1m])", sender.target.now_ms) == [6.0]


def test_what_builds_on_unread_state_is_counted_and_the_next_group_is_whole() -> None:
    head, sender = Head(HeadLimits()), Sender()
    records = [sender.send({A: float(turn), B: 1.0}, group=1 + turn // 3) for turn in range(6)]
    assert [head.ingest(record) for record in records[1:]] == [0, 0, 2, 2, 2]
    assert head.refused[Reason.UNKNOWN_STATE] == 4


def test_older_records_are_replayed_so_that_the_first_sample_can_be_read() -> None:
    head, sender = Head(HeadLimits()), Sender()
    first, second = sender.send({A: 1.0}), sender.send({A: 2.0})
    head.replay(first)
    assert head.series == 0
    assert head.ingest(second) == 1


def test_a_series_that_was_silent_for_long_is_found_again_by_its_number() -> None:
    """The reader holds its number, while its slot in the head was closed and went to another series."""
    head, sender, c = Head(HeadLimits(retention_ms=60_000)), Sender(), entry("x", i="c")
    head.ingest(sender.send({A: 1.0, B: 1.0}))
    sender.target.now_ms += 100_000
    head.ingest(sender.send({B: 2.0}, kept=(A,)))
    head.expire(sender.target.now_ms)
    assert head.series == 1
    head.ingest(sender.send({B: 3.0, c: 30.0}, kept=(A,)))
    head.ingest(sender.send({A: 4.0, B: 5.0, c: 50.0}))
    now = sender.target.now_ms
    assert [ask(head, f'x{{i="{name}"}}', now) for name in "abc"] == [[4.0], [5.0], [50.0]]


def test_numbers_are_used_again_when_nobody_holds_them() -> None:
    head, sender = Head(HeadLimits(retention_ms=10_000)), Sender()
    for turn in range(300):
        head.ingest(sender.send({entry("x", pod=str(turn)): float(turn)}, group=turn // 50))
        head.expire(sender.target.now_ms)
        assert ask(head, "x", sender.target.now_ms) == [float(turn)]
    numbers = head.source(TENANT.organization)._numbers
    assert len(numbers) < 10
    assert len(numbers.slots) < 100


def test_a_limit_refuses_new_series_of_frames_and_takes_them_once_there_is_room() -> None:
    head, sender = Head(HeadLimits(series=1, retention_ms=60_000)), Sender()
    assert head.ingest(sender.send({A: 1.0, B: 1.0})) == 1
    sender.target.now_ms += 120_000
    head.expire(sender.target.now_ms)
    assert head.ingest(sender.send({A: 2.0, B: 2.0})) == 1
    assert head.refused[Reason.SERIES_LIMIT] == 2


def test_complete_through_is_the_least_of_the_lanes_that_were_heard() -> None:
    head, billing = Head(HeadLimits()), Sender()
    bulk = Sender(replace(HEADER, lane=Lane.BULK), Target(now_ms=BASE_MS))
    head.ingest(billing.send({A: 1.0}, through_ms=BASE_MS + 500))
    assert [found.complete_through_ms for found in head.progress()] == [BASE_MS + 500]
    head.ingest(bulk.send({B: 1.0}, through_ms=BASE_MS + 100))
    assert [found.complete_through_ms for found in head.progress()] == [BASE_MS + 100]
    head.ingest(billing.send({A: 1.0}, through_ms=BASE_MS + 1500))
    assert [found.complete_through_ms for found in head.progress()] == [BASE_MS + 100]
    head.ingest(bulk.send({B: 1.0}, through_ms=BASE_MS + 1200))
    assert [found.complete_through_ms for found in head.progress()] == [BASE_MS + 1200]
    billing.target.now_ms += 700_000
    head.ingest(billing.send({A: 1.0}, through_ms=BASE_MS + 700_000))
    assert [found.complete_through_ms for found in head.progress()] == [BASE_MS + 700_000]


def test_history_is_not_evaluated_and_a_resync_gives_no_sample() -> None:
    head = Head(HeadLimits())
    history = Sender(replace(HEADER, lane=Lane.HISTORY))
    assert head.ingest(history.send({A: 1.0})) == 0
    head.replay(history.send({A: 1.0}))
    resync = Sender(replace(HEADER, resync=True))
    assert head.ingest(resync.send({A: 1.0})) == 0
    assert list(head.progress()) == []
    following = replace(resync, header=HEADER)
    assert head.ingest(following.send({A: 2.0})) == 1


def test_frames_that_are_none_are_a_dead_letter() -> None:
    record = Sender().send({A: 1.0})
    with pytest.raises(DeadLetter):
        Head(HeadLimits()).ingest(replace(record, value=b"nonsense"))
