"""A tenant's labels, as long and as many as it likes: what the writer holds of them is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kernel.log.memory import MemoryLog
from metering.lake.series import USUAL_LABEL_BYTES, SeriesIndex
from metering.lake.series_table import learn_stored
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import LIVE_TOPIC, BatchHeader, Lane, SampleBatch, canonical_labels, encode_record
from tests.identity.world import ACME, COLLECTOR
from tests.lake.setting import memory_log, open_lake

NOW = 1_760_000_000_000
SERIES, SIZE = 50, 30_000


def long_labels(push: int) -> SampleBatch:
    series = tuple(
        canonical_labels([("__name__", "m"), ("n", f"{push}-{number}"), ("text", "x" * SIZE)])
        for number in range(SERIES)
    )
    return SampleBatch(series, np.arange(SERIES, dtype=np.int32), np.full(SERIES, NOW), np.zeros(SERIES))


async def filled(folder: Path) -> tuple[MemoryLog, int]:
    log = await memory_log()
    writer = await log.writer()
    records = [
        encode_record(BatchHeader(ACME, COLLECTOR, Lane.BILLING, NOW, ""), long_labels(push)) for push in range(4)
    ]
    await writer.append(LIVE_TOPIC, records)
    return log, sum(len(record.value) for record in records)


async def test_labels_that_compress_well_still_count(tmp_path: Path) -> None:
    log, compressed = await filled(tmp_path)
    assert compressed < SERIES * SIZE / 10, "in the log they are next to nothing"
    lake = await open_lake(tmp_path)
    writer = LakeWriter(lake, log, LakeSettings(commit_bytes=SERIES * SIZE, cached_series=1000))
    assert await writer.drain() == 4 * SERIES
    assert writer._intake.series.label_bytes <= SERIES * SIZE, "forgotten at a commit: over those of 1,000"
    index = SeriesIndex()
    learn_stored(lake.tables, index, 1000)
    assert index.label_bytes < 1000 * USUAL_LABEL_BYTES + 5 * SERIES * SIZE, "nor does a start read all of them"
    assert (await lake.info()).rows == 4 * SERIES
    await lake.close()
    await log.close()
