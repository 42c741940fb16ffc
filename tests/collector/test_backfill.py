"""A CSV of history: checked whole, sent once, taken up after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.history import backfill as backfill_module
from collector.history.command import backfill
from collector.history.table import load_history, parse_history
from collector.labels import render_labels
from collector.settings import load_collector_settings
from collector.spool.export import Range, stored_rows
from collector.wire.headers import CONTENT_TYPE_FRAMES, PushLane
from kernel.errors import InvalidInput
from tests.collector.crasher import append_history, append_history_and_die, run_until_killed
from tests.collector.world import ScriptedGateway, run_gateway, write_config

NOW = 1_800_000_000_000
HEADER = "timestamp_ms,metric,value,cluster\n"


def test_rows_are_read_by_time_then_series() -> None:
    text = HEADER + '2000,b,1.5,x\n1000,b,NaN,\n2000,a,+Inf,"y, ""z"""\n'
    rows = parse_history(text.encode(), "h.csv", NOW)
    assert [(row.timestamp_ms, render_labels(row.labels)) for row in rows] == [
        (1000, "b"),
        (2000, 'a{cluster="y, \\"z\\""}'),
        (2000, 'b{cluster="x"}'),
    ]


def test_iso_times_need_a_zone_and_are_exact() -> None:
    text = "timestamp,metric,value\n2026-01-31T12:00:00.001+01:00,a,1\n"
    assert parse_history(text.encode(), "h.csv", NOW)[0].timestamp_ms == 1769857200001


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ("", "line 1, column header", "''"),
        ("metric,value\n", "line 1, column header", "metric,value"),
        ("timestamp,timestamp_ms,metric,value\n", "line 1, column header", "timestamp,"),
        ("timestamp_ms,metric,value,value\n", "line 1, column header", "value,value"),
        ("timestamp_ms,metric,value,__x\n", "line 1, column __x", "__x"),
        (HEADER + "1,a,1\n", "line 2, column row", "3 cells"),
        (HEADER + "1,a,1,x\n-1,a,1,x\n", "line 3, column timestamp_ms", "-1"),
        (HEADER + f"{NOW + 1},a,1,x\n", "line 2, column timestamp_ms", str(NOW + 1)),
        (HEADER + "1,a-b,1,x\n", "line 2, column metric", "a-b"),
        (HEADER + "1,a,1_0,x\n", "line 2, column value", "1_0"),
        (HEADER + "1,a,,x\n", "line 2, column value", "''"),
        (HEADER + "1,a,1,x\n1,a,2,x\n", "line 3, column row", "a at 1 again"),
        (HEADER + '1,a,1,"x\n', "line 2, column row", "unexpected end"),
        ("timestamp,metric,value\n2026-01-31T12:00:00,a,1\n", "line 2, column timestamp", "2026"),
    ],
)
def test_a_bad_row_is_named_by_line_and_column(text: str, where: str, found: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_history(text.encode(), "h.csv", NOW)
    finding = refusal.value.findings[0]
    assert finding.where == where
    assert found in finding.found
    assert finding.source == "h.csv"


def test_findings_are_bounded() -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_history((HEADER + "x,a,1,\n" * 1000).encode(), "h.csv", NOW)
    assert len(refusal.value.findings) == 50


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: (HEADER + text).encode())))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        rows = parse_history(content, "h.csv", NOW)
    except InvalidInput:
        return
    assert all(0 <= row.timestamp_ms <= NOW for row in rows)


def write_csv(folder: Path, rows: int) -> Path:
    path = folder / "history.csv"
    lines = [f"{1_700_000_000_000 + number},byoc_x,{number},c{number % 2}\n" for number in range(rows)]
    path.write_text(HEADER + "".join(lines) + "1700000000000,private,1,c\n")
    return path


async def test_history_arrives_in_its_own_lane_without_a_promise_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a gateway that knows remote write alone."""
    monkeypatch.setattr(backfill_module, "CHUNK_SAMPLES", 10)
    write = ScriptedGateway.write

    async def without_frames(gateway: ScriptedGateway, request: web.Request) -> web.Response:
        if request.headers["Content-Type"] == CONTENT_TYPE_FRAMES:
            return web.Response(status=415)
        return await write(gateway, request)

    monkeypatch.setattr(ScriptedGateway, "write", without_frames)
    async with run_gateway(tmp_path) as gateway:
        loaded = load_collector_settings(write_config(tmp_path, gateway.url))
        first = await backfill(loaded, write_csv(tmp_path, 25))
        again = await backfill(loaded, tmp_path / "history.csv")
    assert (first.rows, first.denied, first.appended, first.rejected) == (26, 1, 25, 0)
    assert again.appended == 0
    assert [one.push.sequence for one in gateway.requests] == [1, 2, 3]
    assert {(one.push.lane, one.push.complete_through_ms) for one in gateway.requests} == {(PushLane.HISTORY, None)}
    assert sorted(value for _, _, value in gateway.rows()) == [float(number) for number in range(25)]
    assert {series for series, _, _ in gateway.rows()} == {'byoc_x{cluster="c0"}', 'byoc_x{cluster="c1"}'}


async def test_a_file_with_one_bad_row_sends_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path, 5)
    path.write_text(path.read_text() + "oops,byoc_x,1,c\n")
    async with run_gateway(tmp_path) as gateway:
        loaded = load_collector_settings(write_config(tmp_path, gateway.url))
        with pytest.raises(InvalidInput, match="line 8, column timestamp_ms"):
            await backfill(loaded, path)
        assert gateway.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["spool.half_written:2", "spool.synced:2", "spool.synced:4"])
async def test_after_a_kill_the_rest_is_appended_and_no_chunk_twice(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path, 11)
    run_until_killed(append_history_and_die, place, path, 3)
    monkeypatch.setattr(backfill_module, "CHUNK_SAMPLES", 3)
    await append_history(tmp_path, load_history(path, NOW))
    rows = list(stored_rows(tmp_path / "history", Range(None)))
    values = [value for labels, _, value in rows if dict(labels)["__name__"] != "private"]
    assert sorted(values) == [float(number) for number in range(11)]
