"""A lake from before the integers: it is given the columns when it is opened, and its files stay readable."""

from __future__ import annotations

import asyncio
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema

from kernel.ids import CollectorId
from kernel.log import TopicPartition
from metering.lake import tables as tables_module
from metering.lake.api import ScanOptions
from metering.lake.commit import Outcome, attempt
from metering.lake.compact import Compactor
from metering.lake.errors import LakeUnavailable
from metering.lake.positions import POSITIONS, FileName, render_positions
from metering.lake.settings import LakeSettings
from metering.lake.tables import SAMPLES, SAMPLES_SCHEMA
from metering.lake.verify import verify
from metering.record import LIVE_TOPIC, canonical_labels, series_id
from tests.lake.setting import ACME, DAY, T0, Push, append, gauge, memory_log, open_lake, stored_rows, writer_of

ONE = gauge("up", of="one")
OLD_SCHEMA = Schema(*SAMPLES_SCHEMA.fields[:5])
THEN = TopicPartition(LIVE_TOPIC, 9)  # not one that the writers of these tests hold
OLD_VALUES = [1.0, 0.25, -0.0, math.inf, 1e300]


def old_content() -> bytes:
    """A file as the writer made it then."""
    rows = len(OLD_VALUES)
    columns: dict[str, Any] = {
        "series_id": pa.array([series_id(ACME, CollectorId("col-a"), canonical_labels(ONE))] * rows, pa.binary(16)),
        "timestamp_ms": pa.array([T0 + 1000 + at for at in range(rows)]),
        "value": pa.array(OLD_VALUES),
        "day": pa.array(np.full(rows, DAY.start_ms // 86_400_000, np.int32)).cast(pa.date32()),
        "tenant": pa.array([str(ACME)] * rows),
    }
    sink = pa.BufferOutputStream()
    written = [name for name in columns if name != "value"]
    pq.write_table(pa.table(columns), sink, store_schema=False, write_statistics=written)
    content: bytes = sink.getvalue().to_pybytes()
    return content


async def old_lake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of then with a file of then."""
    with monkeypatch.context() as then:
        then.setattr(tables_module, "SAMPLES_SCHEMA", OLD_SCHEMA)
        lake = await open_lake(folder)
    table = lake.tables.load(SAMPLES)
    content = old_content()
    name = FileName(THEN, 0, 0, hashlib.sha256(content).hexdigest())
    location = f"{table.location()}/data/2026-01-01/acme/prod/{name}"
    await asyncio.to_thread(lambda: Path(location.removeprefix("file://")).parent.mkdir(parents=True))
    Path(location.removeprefix("file://")).write_bytes(content)
    positions = {POSITIONS: render_positions({THEN: 1})}
    assert await asyncio.to_thread(attempt, table, (location,), positions) is Outcome.DONE
    await lake.close()


async def test_old_files_are_read_beside_new_ones_and_merge_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_lake(tmp_path, monkeypatch)
    lake, log = await open_lake(tmp_path), await memory_log()
    new = [(ONE, T0 + 5000 + at, value) for at, value in enumerate([7.0, 0.125, math.nan])]
    await append(log, [Push(new)])
    assert await writer_of(lake, log, compact_ratio=0).drain() == 3
    before = await stored_rows(lake)
    assert [repr(value) for _, _, value in before] == [repr(value) for value in [*OLD_VALUES, 7.0, 0.125, math.nan]]
    while await Compactor(lake.places, LakeSettings()).compact_one(least_files=2):
        pass
    assert (await lake.info()).files == 1
    assert repr(await stored_rows(lake)) == repr(before)
    report = await verify(lake.places, None)
    assert not report.findings
    await lake.close()


async def test_the_columns_are_added_once_and_have_the_numbers_of_new_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_lake(tmp_path, monkeypatch)
    first = await open_lake(tmp_path)
    await first.close()
    again = await open_lake(tmp_path)
    table = again.tables.load(SAMPLES)
    assert [(each.field_id, each.name) for each in table.schema().fields] == [
        (each.field_id, each.name) for each in SAMPLES_SCHEMA.fields
    ]
    assert len(table.metadata.schemas) == 2
    mapping = table.name_mapping()
    assert mapping is not None
    assert {each.names[0] for each in mapping.root} == {each.name for each in SAMPLES_SCHEMA.fields}
    await again.close()


async def test_columns_that_others_keep_from_being_added_are_a_fault_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_lake(tmp_path, monkeypatch)

    def lost(*_: object) -> object:
        raise CommitFailedException("another was there")

    with monkeypatch.context() as busy:
        busy.setattr("pyiceberg.catalog.sql.SqlCatalog.commit_table", lost)
        with pytest.raises(LakeUnavailable, match="no new columns"):
            await open_lake(tmp_path)
    lake = await open_lake(tmp_path)
    assert "delta" in lake.tables.load(SAMPLES).schema().column_names
    await lake.close()


async def test_integers_come_with_their_scale_from_files_of_both_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_lake(tmp_path, monkeypatch)
    lake, log = await open_lake(tmp_path), await memory_log()
    await append(log, [Push([(ONE, T0 + 5000 + at, value) for at, value in enumerate([7.0, 0.125, math.nan])])])
    await writer_of(lake, log, compact_ratio=0).drain()
    table = await lake.scan("acme", DAY, options=ScanOptions(as_integers=True))
    numbers = table.column("integer").to_pylist()
    scales = table.column("scale").to_pylist()
    assert list(zip(numbers[-3:], scales[-3:], strict=True)) == [(7000, 3), (125, 3), (None, None)]
    values = table.column("value").to_pylist()
    for number, scale, value in zip(numbers, scales, values, strict=True):
        assert number is None or (scale is not None and number / 10**scale == value)
    empty = await lake.scan("org-b", DAY, options=ScanOptions(as_integers=True))
    assert empty.column_names == table.column_names
    await lake.close()
