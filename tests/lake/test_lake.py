"""From the log to rows: what goes in comes out once, in order, under its tenant."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, OrganizationId
from kernel.log import TopicPartition
from kernel.window import Window
from metering.lake.api import Lake, ScanOptions
from metering.lake.errors import LakeDamaged, UnknownSnapshot
from metering.lake.series import SeriesIndex
from metering.record import HISTORY_TOPIC, LIVE_TOPIC, STALE_NAN_BITS, Lane, canonical_labels
from metering.refusal import REFUSALS_TOPIC, decode_refusal
from tests.lake.setting import (
    ACME,
    DAY,
    OTHER,
    T0,
    Push,
    append,
    gauge,
    memory_log,
    open_lake,
    rows_of,
    stored_rows,
    writer_of,
)

ONE, TWO = gauge("up", job="a"), gauge("up", job="b")


async def filled(folder: Path, *pushes: Push) -> Lake:
    log, lake = await memory_log(), await open_lake(folder)
    await append(log, pushes)
    await writer_of(lake, log).drain()
    return lake


async def test_samples_come_out_once_and_in_order(tmp_path: Path) -> None:
    pushes = [Push([(ONE, T0 + 2, 2.0), (TWO, T0 + 1, 1.0)]), Push([(ONE, T0 + 1, 3.0)], number=2)]
    lake = await filled(tmp_path, *pushes)
    table = await lake.scan("acme", DAY)
    for name, value in {"organization": "acme", "project": "prod", "collector": "col-a"}.items():
        assert table.column(name).to_pylist() == [value] * 3
    assert set(rows_of(table)) == {
        (canonical_labels(TWO), T0 + 1, 1.0),
        (canonical_labels(ONE), T0 + 1, 3.0),
        (canonical_labels(ONE), T0 + 2, 2.0),
    }
    keys = list(zip(table.column("series_id").to_pylist(), table.column("timestamp_ms").to_pylist(), strict=True))
    assert keys == sorted(keys)


async def test_an_organization_sees_its_own_rows_only(tmp_path: Path) -> None:
    # `acme-2` begins as `acme` does: a prefix must not leak.
    near = replace(ACME, organization=OrganizationId("acme-2"))
    lake = await filled(
        tmp_path,
        Push([(ONE, T0, 1.0)]),
        Push([(ONE, T0, 2.0)], tenant=OTHER),
        Push([(ONE, T0, 3.0)], tenant=near),
        Push([(ONE, T0, 4.0)], tenant=replace(ACME, project=OTHER.project)),
    )
    assert [value for *_, value in await stored_rows(lake, "org-b")] == [2.0]
    assert sorted(value for *_, value in await stored_rows(lake)) == [1.0, 4.0]
    assert [value for *_, value in rows_of(await lake.scan("acme", DAY, project="main"))] == [4.0]
    assert await stored_rows(lake, "nobody") == []


async def test_windows_are_half_open_and_names_choose(tmp_path: Path) -> None:
    rows = [(gauge("a"), T0 + at, float(at)) for at in (0, 10, 20)] + [(gauge("b"), T0 + 10, 99.0)]
    lake = await filled(tmp_path, Push(rows))
    window = Window(T0 + 10, T0 + 20)
    assert sorted(value for *_, value in await stored_rows(lake, window=window)) == [10.0, 99.0]
    assert [value for *_, value in rows_of(await lake.scan("acme", window, names=["a"]))] == [10.0]
    assert rows_of(await lake.scan("acme", window, names=["a", "none"])) == rows_of(
        await lake.scan("acme", window, names=["a"])
    )
    assert rows_of(await lake.scan("acme", window, names=[])) == []


async def test_carry_in_is_the_latest_sample_before_the_window_within_reach(tmp_path: Path) -> None:
    midnight = T0 + 86_400_000
    rows = [
        (ONE, midnight - 90, 1.0),
        (ONE, midnight - 50, 2.0),
        (ONE, midnight + 5, 3.0),
        (TWO, midnight - 400, 4.0),
    ]
    lake = await filled(tmp_path, Push(rows))
    window = Window(midnight, midnight + 10)
    carried = await lake.scan("acme", window, options=ScanOptions(carry_in_ms=100))
    assert [(at - midnight, value) for _, at, value in rows_of(carried)] == [(-50, 2.0), (5, 3.0)]
    assert [value for *_, value in await stored_rows(lake, window=window)] == [3.0]


async def test_the_bits_of_a_stale_marker_survive(tmp_path: Path) -> None:
    odd = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]
    lake = await filled(tmp_path, Push([(ONE, T0, odd), (ONE, T0 + 1, -0.0), (ONE, T0 + 2, float("inf"))]))
    stored = (await lake.scan("acme", DAY)).column("value").to_numpy()
    assert stored.view("u8").tolist() == [STALE_NAN_BITS, 1 << 63, 0x7FF0000000000000]


async def test_a_push_that_comes_again_is_dropped(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    first, second = Push([(ONE, T0, 1.0)]), Push([(ONE, T0 + 1, 2.0)], number=2)
    changed = Push([(ONE, T0, 77.0)])  # the same number with other content: the first copy stands
    await append(log, [first, second, first, second])
    assert await writer_of(lake, log).drain() == 2
    await append(log, [second, changed])
    assert await writer_of(lake, log).drain() == 0
    assert [value for *_, value in await stored_rows(lake)] == [1.0, 2.0]


async def test_lanes_collectors_epochs_and_parts_are_streams_of_their_own(tmp_path: Path) -> None:
    lake = await filled(
        tmp_path,
        Push([(ONE, T0, 1.0)]),
        Push([(ONE, T0 + 1, 2.0)], lane=Lane.HISTORY),
        Push([(ONE, T0 + 2, 3.0)], collector="col-b"),
        Push([(ONE, T0 + 3, 4.0)], epoch=2),
        Push([(ONE, T0 + 4, 5.0)], epoch=2, number=2, part=1),
        Push([(ONE, T0 + 5, 6.0)], epoch=2, number=2, part=2),
        Push([(ONE, T0 + 6, 7.0)], epoch=1, number=9),  # an old boot that speaks up late
    )
    assert sorted(value for *_, value in await stored_rows(lake)) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert (await lake.info()).missing_pushes == 7


async def test_skipped_numbers_are_counted_for_good(tmp_path: Path) -> None:
    lake = await filled(
        tmp_path,
        Push([(ONE, T0, 1.0)], number=1),
        Push([(ONE, T0 + 1, 1.0)], number=4),
        Push([(ONE, T0 + 2, 1.0)], epoch=2, number=2),
    )
    assert (await lake.info()).missing_pushes == 3


async def test_equal_samples_of_a_foreign_sender_are_stored_once(tmp_path: Path) -> None:
    lake = await filled(
        tmp_path,
        Push([(ONE, T0, 1.0), (ONE, T0, 1.0), (ONE, T0 + 1, 2.0)], number=None),
        Push([(ONE, T0 + 1, 2.0)], number=None),
    )
    assert (await lake.info()).rows == 2
    assert [value for *_, value in await stored_rows(lake)] == [1.0, 2.0]


async def test_of_two_values_at_one_instant_the_lower_wins_whatever_the_order(tmp_path: Path) -> None:
    nan = float("nan")
    for folder, values in {"a": [3.0, nan, -1.0], "b": [-1.0, 3.0, nan]}.items():
        log, lake = await memory_log(), await open_lake(tmp_path / folder)
        for value in values:
            await append(log, [Push([(ONE, T0, value), (TWO, T0, 5.0)], number=None)])
            await writer_of(lake, log).drain()
        table = await lake.scan("acme", DAY)
        assert {value for *_, value in rows_of(table)} == {-1.0, 5.0}
        assert (table.schema.metadata or {})[b"byoc.conflicts"] == b"1"


async def test_an_unreadable_record_is_put_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    good = Push([(ONE, T0, 1.0)]).record()
    broken = replace(good, value=b"no arrow stream", headers={**good.headers, "sequence": b"1.2.0"})
    headless = replace(good, headers={})
    late = Push([((("b", "1"), ("a", "2")), T0, 1.0)], number=3)
    ancient = Push([(ONE, -5, 1.0)], number=4)
    wrong_lane = Push([(ONE, T0 + 9, 1.0)], number=5, lane=Lane.HISTORY).record()
    writer = await log.writer()
    records = [good, broken, headless, ancient.record(), wrong_lane, Push([(ONE, T0 + 1, 2.0)], number=6).record()]
    await writer.append(LIVE_TOPIC, records)
    await append(log, [late])
    await writer_of(lake, log).drain()
    assert sorted(value for *_, value in await stored_rows(lake)) == [1.0, 1.0, 2.0]
    names = [found.name async for found in lake.objects.list("dead-letter/")]
    assert names == [f"dead-letter/{LIVE_TOPIC}/0/{offset:020d}.json" for offset in (1, 2, 3, 4)]
    assert b"no Arrow stream" in await lake.objects.get(names[0])
    assert (await lake.info()).positions[TopicPartition(LIVE_TOPIC, 0)] == 7
    refused = [decode_refusal(record) for record in log.stored(TopicPartition(REFUSALS_TOPIC, 0))]
    assert [str(each.sequence) for each in refused] == ["1.2.0", "1.4.0"]
    assert "timestamps from -5" in refused[1].reason
    # Nobody waits for a push that was refused; it is missing, and counted once however often it comes.
    await writer.append(LIVE_TOPIC, [broken])
    await writer_of(lake, log).drain()
    assert (await lake.info()).missing_pushes == 3


async def test_the_watermark_is_the_slowest_live_collector(tmp_path: Path) -> None:
    lake = await filled(
        tmp_path,
        Push([], complete_through_ms=T0 + 500),
        Push([], collector="col-b", complete_through_ms=T0 + 300, received_ms=T0 + 7),
        Push([], collector="col-c", lane=Lane.HISTORY, complete_through_ms=T0 - 9),
        Push([(ONE, T0, 1.0)], collector="foreign", number=None),
        Push([], collector="col-d", complete_through_ms=T0 - 9, received_ms=T0 - 2 * 86_400_000),
    )
    assert await lake.watermark("acme") == T0 + 300
    assert await lake.watermark("org-b") is None
    heard = {collector: at for (_, collector), at in (await lake.received_at("acme")).items()}
    assert heard == {"col-a": T0, "col-b": T0 + 7, "foreign": T0, "col-d": T0 - 2 * 86_400_000}
    assert await lake.organizations() == ["acme"]


async def test_a_push_without_samples_moves_positions(tmp_path: Path) -> None:
    lake = await filled(tmp_path, Push([], complete_through_ms=T0))
    info = await lake.info()
    assert (info.rows, info.files, sum(info.positions.values())) == (0, 0, 1)
    assert info.snapshot_id is not None


async def test_files_name_their_records_and_their_hash(tmp_path: Path) -> None:
    late = T0 + 86_400_000
    lake = await filled(
        tmp_path,
        Push([(ONE, T0, 1.0), (ONE, late, 2.0)], lane=Lane.HISTORY),
        Push([(ONE, T0, 3.0)], tenant=OTHER, lane=Lane.HISTORY),
    )
    (found,) = await lake.files(DAY, "acme")
    content = Path(found.location.removeprefix("file://")).read_bytes()
    assert hashlib.sha256(content).hexdigest() == found.sha256
    (origin,) = found.origins
    assert (origin.source, origin.first, origin.last, found.rows) == (TopicPartition(HISTORY_TOPIC, 0), 0, 1, 1)
    assert len(await lake.files(Window(T0, late + 1), "acme")) == 2


async def test_a_scan_as_of_a_snapshot_does_not_see_what_came_later(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await append(log, [Push([(ONE, T0, 1.0)])])
    await writer_of(lake, log).drain()
    then = await lake.snapshot_id()
    await append(log, [Push([(ONE, T0 + 1, 2.0)], number=2)])
    await writer_of(lake, log).drain()
    assert len(await stored_rows(lake)) == 2
    old = await lake.scan("acme", DAY, options=ScanOptions(snapshot_id=then))
    assert [value for *_, value in rows_of(old)] == [1.0]
    with pytest.raises(UnknownSnapshot, match="expired"):
        await lake.scan("acme", DAY, options=ScanOptions(snapshot_id=12345))


async def test_a_horizon_that_was_altered_stops_the_lake(tmp_path: Path) -> None:
    lake = await filled(tmp_path, Push([(ONE, T0, 1.0)]))
    (found,) = [found async for found in lake.objects.list("horizon/")]
    await lake.objects.put(found.name, (await lake.objects.get(found.name)).replace(b"acme", b"evil"))
    again = await open_lake(tmp_path)
    with pytest.raises(LakeDamaged, match="altered"):
        await again.watermark("acme")
    await again.objects.delete(found.name)
    with pytest.raises(LakeDamaged, match="gone"):
        await again.watermark("acme")


def test_labels_out_of_order_are_refused() -> None:

    index = SeriesIndex()
    for labels in (b"b\xff1\xffa\xff2\xff", b"a\xff1\xffa\xff2\xff", b"a\xff\xff", b"\x80", b"a\xff1"):
        with pytest.raises(DeadLetter):
            index.slots(ACME, CollectorId("col-a"), [labels])
    assert len(index) == 0
