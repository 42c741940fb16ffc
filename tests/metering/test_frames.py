"""Records of frames, read from the log in whatever way the lake and the head come to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest

from collector.wire.errors import WireError
from collector.wire.frames import UnknownState, join_blocks
from kernel.errors import DeadLetter
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.frames import FrameRows, GroupLimits, SourceReaders, vendor_labels
from metering.record import BatchHeader, Lane, RecordFormat, parse_canonical_labels
from metering.record import Sequence as Push
from tests.wire.frames.world import Target, entry

TENANT = Tenant(OrganizationId("org-a"), ProjectId("project-1"))
HEADER = BatchHeader(
    TENANT, CollectorId("collector-1"), Lane.BILLING, 1_000, "", Push(7, 1), format=RecordFormat.FRAMES
)
A, B = entry("a"), entry("b")
HOUR_MS = 3_600_000


@dataclass
class Series:
    """Numbers series, and counts who uses a number."""

    labels: list[tuple[Tenant, CollectorId, bytes]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)

    def assign(self, tenant: Tenant, collector: CollectorId, labels: Sequence[bytes]) -> npt.NDArray[np.int64]:
        before = len(self.labels)
        self.labels += [(tenant, collector, one) for one in labels]
        return np.arange(before, len(self.labels))

    def release(self, tenant: Tenant, numbers: npt.NDArray[np.int64]) -> None:
        self.released += numbers.tolist()


@dataclass
class Log:
    """A partition of one target's records, read by readers that may start anywhere."""

    target: Target = field(default_factory=Target)
    values: list[bytes] = field(default_factory=list)
    headers: list[BatchHeader] = field(default_factory=list)

    def push(self, values: dict[bytes, float], group: int = 1, received_ms: int = 0) -> None:
        tick, _ = self.target.scrape(values)
        self.values.append(join_blocks(group, self.target.encoder.encode(tick, group)))
        push = Push(7, len(self.values))
        self.headers.append(replace(HEADER, sequence=push, received_ms=received_ms or 1_000 * len(self.values)))

    def read(self, readers: SourceReaders, offset: int) -> list[FrameRows]:
        return readers.read(self.headers[offset], self.values[offset], offset)

    def replay(self, readers: SourceReaders, offset: int) -> None:
        readers.replay(self.headers[offset], self.values[offset], offset)


def values(rows: Sequence[FrameRows]) -> list[str]:
    """As text: a stale marker equals itself."""
    return [repr(value) for one in rows for value in one.values.tolist()]


def test_the_tenants_labels_are_put_in_whatever_the_entry_claims() -> None:
    claimed = entry("m", organization="org-b", pod="p", zone="z")
    canonical = vendor_labels(claimed, TENANT)
    assert parse_canonical_labels(canonical) == (
        ("__name__", "m"),
        ("organization", "org-a"),
        ("pod", "p"),
        ("project", "project-1"),
        ("zone", "z"),
    )


def test_a_series_is_numbered_once_and_read_by_its_slot() -> None:
    log, series = Log(), Series()
    readers = SourceReaders(series.assign)
    for turn in range(5):
        log.push({A: float(turn), B: 2.0 * turn})
        rows = log.read(readers, turn)
        assert sorted(values(rows)) == sorted(map(repr, (float(turn), 2.0 * turn)))
    assert [(tenant, collector) for tenant, collector, _ in series.labels] == [
        (TENANT, CollectorId("collector-1"))
    ] * 2


def test_a_reader_that_starts_where_it_is_told_reads_what_follows() -> None:
    """At any place: state from `replay_from` on, samples from the place on."""
    log, first = Log(), SourceReaders(Series().assign)
    starts: list[int] = []
    expected: list[list[str]] = []
    for turn in range(12):
        log.push({A: float(turn), **({B: 1.0} if turn % 3 else {})}, group=1 + turn // 4)
        starts.append(first.replay_from(turn))
        expected.append(values(log.read(first, turn)))
    for place, start in enumerate(starts):
        assert start <= place
        readers = SourceReaders(Series().assign)
        for offset in range(start, place):
            log.replay(readers, offset)
        assert [values(log.read(readers, offset)) for offset in range(place, 12)] == expected[place:]


def test_repeats_are_replayed_and_change_nothing() -> None:
    log, readers = Log(), SourceReaders(Series().assign)
    for turn in range(4):
        log.push({A: float(turn), **({B: 1.0} if turn == 2 else {})})
        log.read(readers, turn)
        for earlier in range(turn + 1):
            log.replay(readers, earlier)


def test_a_record_from_the_middle_of_a_group_is_unknown_until_the_next_group() -> None:
    log, readers = Log(), SourceReaders(Series().assign)
    for turn in range(4):
        log.push({A: float(turn)}, group=1 + turn // 2)
    with pytest.raises(UnknownState):
        log.read(readers, 1)
    log.replay(readers, 1)
    assert values(log.read(readers, 2)) == ["2.0"]
    assert values(log.read(readers, 3)) == ["3.0"]


def test_a_backlog_goes_beside_the_fresh() -> None:
    backlog, fresh, readers = Log(), Log(), SourceReaders(Series().assign)
    for turn in range(3):
        backlog.push({A: float(turn)}, group=1)
        fresh.push({A: 10.0 + turn}, group=2)
        assert values(backlog.read(readers, turn)) == [repr(float(turn))]
        assert values(fresh.read(readers, turn)) == [repr(10.0 + turn)]


def test_groups_that_rested_go_and_their_numbers_are_released() -> None:
    log, series = Log(), Series()
    readers = SourceReaders(series.assign, release=series.release, limits=GroupLimits(groups=2))
    for group in (1, 2, 3):
        log.push({A: 1.0, B: 2.0}, group=group)
        log.read(readers, group - 1)
    assert readers.replay_from(3) == 1
    assert sorted(series.released) == [0, 1]
    log.push({A: 1.0}, group=3)
    log.read(readers, 3)
    assert len(series.released) == 3
    log.push({A: 1.0}, group=4, received_ms=3 * HOUR_MS)
    log.read(readers, 4)
    assert readers.replay_from(5) == 4
    assert len(series.released) == len(set(series.released)) == 6


def test_the_next_group_keeps_the_numbers_and_asks_for_what_is_new_alone() -> None:
    log, series = Log(), Series()
    readers = SourceReaders(series.assign)
    log.push({A: 1.0, B: 2.0}, group=1)
    log.push({A: 1.0}, group=1)  # a slot is free
    log.push({A: 3.0, entry("c"): 4.0}, group=2)
    log.push({A: 5.0, B: 6.0}, group=3)  # what was there before the last group is numbered anew
    found: list[dict[bytes, float]] = []
    for offset in range(4):
        rows = log.read(readers, offset)
        numbered = [(series.labels[n][2], v) for one in rows for n, v in zip(one.series, one.values, strict=True)]
        found.append({labels: value for labels, value in numbered if not np.isnan(value)})
    a, b, c = (vendor_labels(one, TENANT) for one in (A, B, entry("c")))
    assert found == [{a: 1.0, b: 2.0}, {a: 1.0}, {a: 3.0, c: 4.0}, {a: 5.0, b: 6.0}]
    assert [labels for _, _, labels in series.labels] == [a, b, c, b]


def test_a_root_of_many_pieces_keeps_the_numbers_of_all_of_them() -> None:
    log, series = Log(), Series()
    readers = SourceReaders(series.assign)
    many = {entry("m", of=str(number)): float(number) for number in range(20_000)}  # more than fit into one patch
    for group in (1, 2):
        log.push(many, group=group)
        rows = log.read(readers, group - 1)
        assert sorted(float(value) for one in rows for value in one.values) == sorted(many.values())
    assert len(series.labels) == len(many)


def test_entries_that_are_none_are_refused_in_a_later_group_too() -> None:
    log, readers = Log(), SourceReaders(Series().assign)
    log.push({A: 1.0}, group=1)
    log.read(readers, 0)
    log.push({A: 1.0, entry("c", z="1") + b"a\xff1\xff": 2.0}, group=2)  # its labels are not sorted
    with pytest.raises(WireError, match="sorted"):
        log.read(readers, 1)


def test_all_slots_together_are_bounded() -> None:
    log, readers = Log(), SourceReaders(Series().assign, limits=GroupLimits(slots=3))
    for group in (1, 2, 3):
        log.push({A: 1.0, B: 2.0}, group=group)
        log.read(readers, group - 1)
        assert readers.slots <= 3
    assert readers.replay_from(3) == 2


def test_what_is_none_is_told() -> None:
    readers = SourceReaders(Series().assign)
    with pytest.raises(WireError):
        readers.read(HEADER, b"nonsense", 0)
    with pytest.raises(DeadLetter):
        readers.read(replace(HEADER, sequence=None), b"nonsense", 0)
    readers.replay(HEADER, b"nonsense", 0)
    readers.replay(replace(HEADER, format=RecordFormat.SAMPLES), b"nonsense", 0)
    assert readers.replay_from(9) == 9
