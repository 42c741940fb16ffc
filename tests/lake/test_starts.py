"""Start timestamps: what need not be written, and what usage is told of resets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.frames import FamilyMetadata, join_blocks
from kernel.ids import CollectorId
from kernel.window import Window
from metering.frames import vendor_labels
from metering.lake.beside_rows import StartMemory, StartRows
from metering.record import series_id
from tests.lake.beside_world import Told, append
from tests.lake.frames_world import Sender
from tests.lake.frames_world import append as append_records
from tests.lake.setting import ACME, T0, memory_log, open_lake, writer_of
from tests.wire.frames.world import entry

rows_of = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 6), st.integers(0, 8)), max_size=12)


def columns(rows: list[tuple[int, int, int]]) -> StartRows:
    slots, starts, seen = zip(*rows, strict=True) if rows else ((), (), ())
    return StartRows(np.array(slots, np.int64), np.array(starts, np.int64), np.array(seen, np.int64))


def earliest(rows: list[tuple[int, int, int]]) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for slot, start, seen in rows:
        found[slot, start] = min(seen, found.get((slot, start), seen))
    return found


@settings(deadline=None)
@given(st.lists(rows_of, max_size=5))
def test_what_is_written_tells_of_every_start_from_its_earliest_sample(
    pushes: list[list[tuple[int, int, int]]],
) -> None:
    memory = StartMemory()
    written: list[tuple[int, int, int]] = []
    for push in pushes:
        found = memory.changed(columns(push))
        written += zip(found.slots.tolist(), found.starts_ms.tolist(), found.seen_ms.tolist(), strict=True)
    valid = [row for push in pushes for row in push if 0 < row[1] <= row[2]]
    assert earliest(written) == earliest(valid)


def test_a_start_that_stays_is_written_once() -> None:
    memory = StartMemory()
    assert len(memory.changed(columns([(0, 1, 5), (1, 1, 5)])).slots) == 2
    for at in range(6, 50):
        assert len(memory.changed(columns([(0, 1, at), (1, 1, at)])).slots) == 0


async def test_usage_is_told_the_start_that_stood_and_each_move(tmp_path: Path) -> None:
    log, lake = await memory_log(1), await open_lake(tmp_path)
    samples = [(10, 5), (20, 5), (30, 25), (40, 25), (50, 45), (60, 45)]
    await append(log, [Told("c_total", T0 + at, start_ms=T0 + began) for at, began in samples])
    await append(log, [Told("never", T0 + 10), Told("future", T0 + 10, start_ms=T0 + 99)])
    await writer_of(lake, log, commit_samples=1, poll_records=1).drain()
    assert (await lake.info()).beside["starts"] == 3
    found = (await lake.starts("acme", Window(T0 + 30, T0 + 50))).to_pylist()
    assert [(row["start_ms"] - T0, row["seen_ms"] - T0, max(0, row["previous_ms"] - T0)) for row in found] == [
        (5, 10, 0),
        (25, 30, 5),
    ]
    series = found[0]["series_id"]
    assert (await lake.starts("acme", Window(T0, T0 + 90), [series])).num_rows == 3
    assert (await lake.starts("acme", Window(T0, T0 + 90), [b"\0" * 16])).num_rows == 0
    assert (await lake.starts("org-b", Window(T0, T0 + 90))).num_rows == 0


async def test_starts_and_metadata_in_frames_are_stored(tmp_path: Path) -> None:
    log, lake = await memory_log(1), await open_lake(tmp_path)
    sender = Sender()
    target, counter = sender.targets[0], entry("c_total")
    told = FamilyMetadata("c_seconds", 1, "seconds", "Sekunden, gezählt.")
    for began in (T0 - 5, T0 - 5, T0 + 2500):
        tick, _ = target.scrape({counter: 1.0}, starts={counter: began}, metadata=[told])
        sender.number += 1
        await append_records(log, sender._record(join_blocks(1, target.encoder.encode(tick, 1))))
    await writer_of(lake, log).drain()
    found = (await lake.starts("acme", Window(T0, T0 + 9000))).to_pylist()
    assert [(row["start_ms"] - T0, row["seen_ms"] - T0) for row in found] == [(-5, 1000), (2500, 3000)]
    assert {row["series_id"] for row in found} == {
        series_id(ACME, CollectorId("col-a"), vendor_labels(counter, ACME))
    }
    [family] = (await lake.metadata("acme")).to_pylist()
    assert (family["collector"], family["family"], family["type"]) == ("col-a", "c_seconds", "counter")
    assert (family["unit"], family["help"]) == ("seconds", "Sekunden, gezählt.")
    assert (await lake.metadata("org-b")).num_rows == 0
