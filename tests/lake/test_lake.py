"""From the log to rows: what goes in comes out once, in order, under its tenant."""

from __future__ import annotations

from pathlib import Path

from metering.record import canonical_labels
from tests.lake.setting import DAY, T0, Push, append, gauge, memory_log, open_lake, stored_rows, writer_of


async def test_samples_come_out_once_and_in_order(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    one, two = gauge("up", job="b"), gauge("up", job="a")
    await append(log, [Push([(one, T0 + 2, 2.0), (two, T0 + 1, 1.0)]), Push([(one, T0 + 1, 3.0)], number=2)])
    assert await writer_of(lake, log).drain() == 3
    table = await lake.scan("acme", DAY)
    assert table.column("organization").to_pylist() == ["acme"] * 3
    assert table.column("project").to_pylist() == ["prod"] * 3
    assert table.column("collector").to_pylist() == ["col-a"] * 3
    found = await stored_rows(lake)
    assert sorted(found) == sorted(
        [
            (canonical_labels(two), T0 + 1, 1.0),
            (canonical_labels(one), T0 + 1, 3.0),
            (canonical_labels(one), T0 + 2, 2.0),
        ]
    )
    keys = list(zip(table.column("series_id").to_pylist(), table.column("timestamp_ms").to_pylist(), strict=True))
    assert keys == sorted(keys)
