"""What travels beside samples is kept like them: once, in any order, through crashes, merging and the calendar."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.log import StoredRecord, TopicPartition
from metering.lake.beside import BESIDE, EXEMPLARS, BesideTable, each_once, merge, parse, render
from metering.lake.beside_files import beside_contents
from metering.lake.beside_read import choose_histograms, choose_metadata, choose_starts
from metering.lake.compact import Compactor
from metering.lake.histogram_head import parse_head
from metering.lake.intake import Intake
from metering.lake.positions import Standing
from metering.lake.retention import drop_old_days, tag_closed_months
from metering.lake.series import SeriesIndex
from metering.lake.settings import LakeSettings
from metering.lake.verify import verify
from metering.lake.writer import LakeWriter
from metering.record import LIVE_TOPIC
from metering.samples import ExemplarRow, Metadata, decode_columns, encode_columns
from tests.effort import costly
from tests.lake.beside_world import WEEK, Told, all_beside, append, message, stored_counts
from tests.lake.crash_world import ended, start
from tests.lake.places import open_places
from tests.lake.setting import OTHER, T0, memory_log, open_lake, stored_rows, writer_of

DAY_MS = 86_400_000
SOURCE = TopicPartition(LIVE_TOPIC, 0)
TRACE = b"trace_id\xffabc\xff"
REQUESTS = Metadata("requests", "counter", "How many came.", "requests")


def full(at: int, number: int | None = None, name: str = "requests_total") -> Told:
    """A push that has something for every table."""
    return Told(name, T0 + at, float(at), T0 - 5, at, (TRACE, at / 2), REQUESTS, number, received_ms=T0 + at)


async def test_everything_is_stored_and_read_by_its_organization_alone(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await append(log, [full(1, 1), full(2, 2), full(2, 2), Told("x", T0, tenant=OTHER)])
    await writer_of(lake, log).drain()
    found = await all_beside(lake)
    assert [(row["timestamp_ms"], row["count"]) for row in found["histograms"]] == [(T0 + 1, 1.0), (T0 + 2, 2.0)]
    assert [(row["timestamp_ms"], row["value"], row["labels"]) for row in found["exemplars"]] == [
        (T0 + 1, 0.5, TRACE),
        (T0 + 2, 1.0, TRACE),
    ]
    [start_row] = found["starts"]
    assert (start_row["start_ms"], start_row["seen_ms"], start_row["previous_ms"]) == (T0 - 5, T0 + 1, 0)
    assert found["metadata"] == [
        {
            "organization": "acme",
            "project": "prod",
            "collector": "col-a",
            "family": "requests",
            "type": "counter",
            "unit": "requests",
            "help": "How many came.",
            "seen_ms": T0 + 1,
        }
    ]
    assert all(not rows for rows in (await all_beside(lake, "org-b")).values())
    assert await stored_counts(lake) == {"histograms": 2, "exemplars": 2, "starts": 1, "metadata": 1}
    assert (await verify(lake.places, None)).findings == []


async def test_of_different_histograms_at_one_instant_the_lower_wins_and_it_is_counted(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await append(log, [Told("h", T0, histogram=count) for count in (7, 5, 5, 9)])
    await append(log, [Told("h", T0 + 1, histogram=1)] * 2)
    await writer_of(lake, log).drain()
    found = await lake.histograms("acme", WEEK)
    assert found.column("count").to_pylist() == [5.0, 1.0]
    assert found.schema.metadata[b"byoc.conflicts"] == b"1"


async def test_an_exemplar_without_a_date_costs_no_sample(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    good, bad = (Told("x", T0, exemplar=(TRACE, 1.0), number=1), Told("x", T0, exemplar=(TRACE, 2.0), number=2))
    record = bad.record()
    value = record.value
    await append(log, [good])
    writer = await log.writer()
    columns = decode_columns(value)
    broken = encode_columns(
        type(columns)(
            columns.pages,
            columns.series_index,
            columns.timestamps_ms + 1,
            columns.values,
            exemplars=(ExemplarRow(0, 1.0, -1, b""), ExemplarRow(0, 1.0, 2**62, b"")),
        )
    )
    await writer.append("byoc.samples", [type(record)(record.key, broken, record.headers)])
    await writer.close()
    await writer_of(lake, log).drain()
    assert len(await stored_rows(lake)) == 2
    assert len((await all_beside(lake))["exemplars"]) == 1


told = st.builds(
    Told,
    name=st.sampled_from(["a", "b"]),
    at_ms=st.sampled_from([T0, T0 + 1, T0 + 5, T0 + DAY_MS]),
    start_ms=st.sampled_from([0, T0 - 9, T0 - 3, T0 + 4]),
    histogram=st.none() | st.integers(1, 3),
    exemplar=st.none() | st.tuples(st.sampled_from([b"", TRACE]), st.sampled_from([0.0, -0.0, 1.0, float("nan")])),
    family=st.none() | st.builds(Metadata, st.sampled_from(["a", "b"]), st.sampled_from(["counter", "gauge"])),
    collector=st.sampled_from(["col-a", "col-b"]),
    received_ms=st.sampled_from([T0, T0 + 1, T0 + DAY_MS]),
)


def read_back(pushes: Sequence[Told], cuts: int, *, is_merged: bool) -> dict[str, str]:
    """What readers would be given after these pushes came in so many commits."""
    intake, files = Intake(SeriesIndex(), days_per_record=9), dict[BesideTable, list[bytes]]()
    intake.begin({SOURCE: Standing(0, 0)})
    for at in range(0, len(pushes), cuts):
        records = [push.record() for push in pushes[at : at + cuts]]
        intake.admit(
            [
                StoredRecord(*SOURCE, at + number, T0, record.key, record.value, record.headers)
                for number, record in enumerate(records)
            ]
        )
        for table, _, _, content in beside_contents(intake.pending[SOURCE].beside, intake.series):
            files.setdefault(table, []).append(content)
        intake.go_on({SOURCE: at + len(records)})
    rows = {}
    for table in BESIDE:
        contents = files.get(table, [render(table, table.arrow.empty_table())])
        contents = [*merge(table, contents)] if is_merged else contents
        rows[table.name] = pa.concat_tables([parse(table, content) for content in contents])
    histograms = choose_histograms(rows["histograms"])
    found = {
        "histograms": histograms.to_pylist(),
        "conflicts": histograms.schema.metadata,
        "exemplars": each_once(EXEMPLARS, rows["exemplars"]).to_pylist(),
        "starts": choose_starts(rows["starts"], T0 + 1).to_pylist(),
        "metadata": choose_metadata(rows["metadata"]).drop_columns(["seen_ms"]).to_pylist(),  # to six hours
    }
    return {name: repr(listed) for name, listed in found.items()}


@costly(50)
@given(pushes=st.lists(told, min_size=1, max_size=8), data=st.data())
def test_order_repetition_chunks_and_merging_do_not_matter(pushes: list[Told], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(pushes), max_size=3))
    shuffled = data.draw(st.permutations([*pushes, *again]))
    chunk = data.draw(st.integers(1, 4))
    whole, cut = read_back(pushes, 100, is_merged=False), read_back(shuffled, chunk, is_merged=True)
    # What is said of a family counts in the order of receipt, which is the log's.
    received = [sorted(listed, key=lambda push: (push.received_ms, repr(push))) for listed in (pushes, shuffled)]
    whole["metadata"] = read_back(received[0], 100, is_merged=False)["metadata"]
    cut["metadata"] = read_back(received[1], chunk, is_merged=True)["metadata"]
    assert whole == cut


async def test_merging_leaves_each_row_once_and_verify_finds_damage(tmp_path: Path) -> None:
    log, lake = await memory_log(1), await open_lake(tmp_path)
    for at in range(1, 4):
        await append(log, [full(at, at), full(at)])  # the second is a foreign sender's: stored again
        await writer_of(lake, log).drain()
    before = await all_beside(lake)
    compactor = Compactor(lake.places, LakeSettings())
    while await compactor.compact_one(2):
        pass
    assert await all_beside(lake) == before
    assert (await verify(lake.places, None)).findings == []
    assert (await stored_counts(lake))["starts"] == 1
    for table in BESIDE:
        [path] = (tmp_path / "warehouse").rglob(f"{table.name}/data/**/compacted-*.parquet")
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")
        assert any(table.name in finding for finding in (await verify(lake.places, None)).findings)
        path.write_bytes(content)


async def test_days_go_and_months_stay(tmp_path: Path) -> None:
    log, lake = await memory_log(1), await open_lake(tmp_path)
    await append(log, [full(1, 1), full(2 * DAY_MS, 2)])
    await writer_of(lake, log).drain()
    before = await lake.histograms("acme", WEEK)
    assert await tag_closed_months(lake.places, T0 + 40 * DAY_MS, 5) == ("month-2026-01",)
    assert await drop_old_days(lake.places, T0 + 10 * DAY_MS, 100, 9) == 1
    assert len((await all_beside(lake))["exemplars"]) == 1
    assert len((await all_beside(lake))["histograms"]) == 2
    assert await drop_old_days(lake.places, T0 + 10 * DAY_MS, 5) == 5
    found = await all_beside(lake)
    assert (found["histograms"], found["exemplars"]) == ([], [])
    assert (await lake.histograms("acme", WEEK, "month-2026-01")).equals(before)


def test_the_message_of_the_world_is_what_the_head_reads() -> None:
    assert parse_head(message(T0, 7))[:1] == (T0,)
    assert parse_head(message(T0, 7)).observations == 7.0


PLACES = ["lake.series-committed", *(f"lake.{table.name}-committed" for table in BESIDE), "lake.horizon-stored"]


@pytest.mark.slow
async def test_killed_between_any_two_tables_all_is_there_once(tmp_path: Path) -> None:
    places = {"folder": str(tmp_path)}
    async with open_places(places) as (log, lake):
        for number, place in enumerate(PLACES, 1):
            one = full(number, number, f"requests_{number}_total")
            await append(log, [replace(one, family=Metadata(f"requests_{number}", "counter"))])
            await ended(start(places, crash_at=place, mode="drain"), -signal.SIGKILL)
        assert await stored_rows(lake) == []
        await LakeWriter(lake, log).drain()
        found = await all_beside(lake)
        assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(found, len(PLACES))
        assert len(await stored_rows(lake)) == len(PLACES)
        assert min((await stored_counts(lake)).values()) > len(PLACES)  # there twice in files, once for readers
        assert (await verify(lake.places, None)).findings == []
