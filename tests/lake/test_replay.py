"""Laws: whatever is sent again, and whenever the writer stops, the lake holds the same rows."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.log import StoredRecord, TopicPartition
from metering.lake.horizon import Horizon
from metering.lake.horizon_format import parse_horizon, render_horizon
from metering.lake.intake import Intake, Pending
from metering.lake.ordering import sort_order
from metering.lake.parquet import row_groups
from metering.lake.positions import FileName, Standing, parse_file_name, parse_positions, render_positions
from metering.lake.scan import Samples, drop_duplicates
from metering.lake.series import SeriesIndex
from metering.record import LIVE_TOPIC
from tests.effort import costly
from tests.lake.setting import T0, Push, append, gauge, memory_log, open_lake, stored_rows, writer_of

SOURCE = TopicPartition(LIVE_TOPIC, 0)
values = st.sampled_from([0.0, -0.0, 1.5, float("inf"), float("nan")])


@st.composite
def histories(draw: st.DrawFn) -> list[Push]:
    """Pushes as collectors send them: growing numbers, now and then a new boot, a gap, a foreign sender."""
    pushes = []
    next_number: dict[str, tuple[int, int]] = {}
    for at in range(draw(st.integers(1, 8))):
        collector = draw(st.sampled_from(["col-a", "col-b", "foreign"]))
        epoch, number = next_number.get(collector, (1, 1))
        step = draw(st.sampled_from(["next", "next", "gap", "boot"]))
        epoch, number = (epoch + 1, 1) if step == "boot" else (epoch, number + (3 if step == "gap" else 0))
        next_number[collector] = (epoch, number + 1)
        names = draw(st.lists(st.sampled_from(["x", "y"]), min_size=0, max_size=3))
        rows = [(gauge(name), T0 + at * 10 + index, draw(values)) for index, name in enumerate(names)]
        sequence = None if collector == "foreign" else number
        pushes.append(Push(rows, sequence, epoch, collector=collector))
    return pushes


def stored(pushes: Sequence[Push], first: int = 0) -> list[StoredRecord]:
    records = [push.record() for push in pushes]
    return [
        StoredRecord(*SOURCE, first + at, T0, record.key, record.value, record.headers)
        for at, record in enumerate(records)
    ]


def content(pending: Pending) -> list[tuple[str, list[int], list[int], list[int]]]:
    return [
        (str(tenant), rows.slots.tolist(), rows.timestamps_ms.tolist(), rows.values.view(np.uint64).tolist())
        for tenant, listed in pending.rows.items()
        for rows in listed
    ]


@costly(100)
@given(history=histories(), data=st.data())
def test_any_suffix_read_again_adds_nothing(history: list[Push], data: st.DataObject) -> None:
    intake = Intake(SeriesIndex(), days_per_record=9)
    intake.begin({SOURCE: Standing(0, 0)})
    records = stored(history)
    intake.admit(records)
    before, states = content(intake.pending[SOURCE]), dict(intake.pending[SOURCE].states)
    start = data.draw(st.integers(0, len(history)))
    intake.admit(records[start:])  # delivered again by the log
    ours = [push for push in history[start:] if push.number is not None]
    intake.admit(stored(ours, first=len(history)))  # appended again by the gateway
    assert content(intake.pending[SOURCE]) == before
    assert intake.pending[SOURCE].states == states


@settings(max_examples=50, deadline=None)
@given(history=histories(), data=st.data())
def test_where_commits_fall_does_not_matter(history: list[Push], data: st.DataObject) -> None:
    whole, cut = (Intake(SeriesIndex(), days_per_record=9) for _ in range(2))
    records, at = stored(history), data.draw(st.integers(0, len(history)))
    for intake in (whole, cut):
        intake.begin({SOURCE: Standing(0, 0)})
    whole.admit(records)
    cut.admit(records[:at])
    first = cut.pending[SOURCE]
    cut.horizon = Horizon().with_states(first.states)
    cut.go_on({SOURCE: first.following})
    cut.admit(records[max(0, at - 1) :])
    assert content(first) + content(cut.pending[SOURCE]) == content(whole.pending[SOURCE])
    assert cut.horizon.with_states(cut.pending[SOURCE].states) == Horizon(whole.pending[SOURCE].states)


@settings(max_examples=6, deadline=None)
@given(history=histories(), data=st.data())
async def test_the_lake_itself_is_unchanged_by_a_replay(history: list[Push], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, lake = await memory_log(), await open_lake(Path(folder))
        await append(log, history)
        await writer_of(lake, log).drain()
        before = repr(await stored_rows(lake))
        await append(log, history[data.draw(st.integers(0, len(history))) :])
        await writer_of(lake, log, commit_samples=2).drain()
        assert repr(await stored_rows(lake)) == before
        await lake.close()


@given(history=histories())
@costly(100)
def test_horizons_round_trip(history: list[Push]) -> None:
    intake = Intake(SeriesIndex(), days_per_record=9)
    intake.begin({SOURCE: Standing(0, 0)})
    intake.admit(stored(history))
    horizon = Horizon(intake.pending[SOURCE].states)
    assert parse_horizon(render_horizon(horizon, "commit-a")) == horizon
    assert render_horizon(horizon, "commit-a") != render_horizon(horizon, "commit-b")


@given(
    st.dictionaries(st.builds(TopicPartition, st.sampled_from(["a.b", "c-d"]), st.integers(0, 99)), st.integers(0))
)
def test_positions_round_trip(positions: dict[TopicPartition, int]) -> None:
    assert parse_positions(render_positions(positions)) == positions


@given(st.integers(0, 9), st.integers(0, 2**63), st.integers(0, 2**63))
def test_file_names_round_trip(partition: int, first: int, last: int) -> None:
    name = FileName(TopicPartition("byoc.samples-2", partition), first, last, "ab" * 32)
    assert parse_file_name(f"file:///w/data/2026-01-01/acme/prod/{name}") == name
    assert parse_file_name("0000-1111-m0.avro") is None


rows_of_keys = st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3), values), max_size=40)


def columns(rows: list[tuple[int, int, float]]) -> Samples:
    slots, times, found = zip(*rows, strict=True) if rows else ((), (), ())
    return Samples(np.array(slots, np.int64), np.array(times, np.int64), np.array(found, np.float64))


def ordered(samples: Samples) -> Samples:
    return samples.take(sort_order(samples.slots, samples.timestamps_ms))


@given(rows_of_keys, st.data())
def test_which_duplicate_wins_does_not_depend_on_the_order(
    rows: list[tuple[int, int, float]], data: st.DataObject
) -> None:
    kept, conflicts = drop_duplicates(ordered(columns(rows)))
    again, conflicts_again = drop_duplicates(ordered(columns(data.draw(st.permutations(rows)))))
    keys = list(zip(kept.slots.tolist(), kept.timestamps_ms.tolist(), strict=True))
    assert keys == sorted({(slot, at) for slot, at, _ in rows})
    assert kept.values.view(np.uint64).tolist() == again.values.view(np.uint64).tolist()
    assert conflicts == conflicts_again
    for (slot, at), value in zip(keys, kept.values.tolist(), strict=True):
        numbers = [each for key, time, each in rows if (key, time) == (slot, at) and not math.isnan(each)]
        assert value == min(numbers) if numbers else math.isnan(value)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 20))
def test_row_groups_tile_the_rows_and_end_where_a_series_does(ranks: list[int], target: int) -> None:
    found = np.array(sorted(ranks), np.int64)
    counts = np.unique(found, return_counts=True)[1]
    groups = list(row_groups(counts, target))
    assert [int(counts[first:last].sum()) for _, _, first, last in groups] == [
        stop - start for start, stop, *_ in groups
    ]
    cuts = [(start, stop) for start, stop, *_ in groups]
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
    assert cuts[-1][1] == len(found)
    for start, stop in cuts[:-1]:
        assert stop - start >= target
        assert found[stop - 1] != found[stop]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(-(2**62), 2**62)), max_size=30))
def test_rows_sort_by_rank_then_time_whatever_their_range(rows: list[tuple[int, int]]) -> None:
    ranks = np.array([rank for rank, _ in rows], np.int64)
    times = np.array([time for _, time in rows], np.int64)
    order = sort_order(ranks, times)
    assert list(zip(ranks[order].tolist(), times[order].tolist(), strict=True)) == sorted(rows)
