"""Our own sender of remote write 2.0 into our own gateway, as a foreign one: every row arrives, and is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from collector.wire.frames import Dated, HistogramRow
from kernel.clock import SystemClock
from tests.collector.client_messages import WRITE
from tests.collector.test_remote_write_requests import STALE, Stream, bits, entry
from tests.collector.test_remote_write_sender import writing
from tests.gateway.world import gateway_world


async def test_samples_stale_markers_histograms_and_dated_rows_are_taken(tmp_path: Path) -> None:
    async with gateway_world(tmp_path) as world:
        files = world.credentials()
        tls = {
            "ca_file": str(tmp_path / "authority" / "ca.pem"),
            "cert_file": str(files.certificate),
            "key_file": str(files.key),
        }
        async with writing(tmp_path / "own", f"{world.url}/api/v1/write", tls_config=tls) as sending:
            stream = sending.stream = Stream(at_ms=SystemClock().now_ms() - 60_000)
            first = stream.tick([entry("a", 1, x="1"), entry("b", 2), entry("h", 3)], [], [])
            first.present = np.array([True, True, False])
            first.dated = Dated(np.array([1], np.int32), np.array([first.at_ms - 5]), np.array([2.5]))
            message = WRITE["Histogram"](
                count_int=1, zero_count_int=1, zero_threshold=1, sum=1, timestamp=first.at_ms
            )
            first.histograms = [HistogramRow(2, message.SerializeToString())]
            await sending.writer.take(stream.table, first)
            second = stream.tick([], [0], [0])
            await sending.writer.take(stream.table, second)
            await sending.drained()
            assert sending.lost() == {}
            assert sending.written() == {"samples": 6, "histograms": 1}
        rows = [row for _, batch in await world.stored() for row in batch]
    found = sorted((labels["__name__"], at, bits(value)) for labels, at, value in rows)
    assert found == sorted(
        [
            ("a", first.at_ms, bits(float(first.values[0]))),
            ("b", first.at_ms, bits(float(first.values[1]))),
            ("b", first.at_ms - 5, bits(2.5)),
            ("a", second.at_ms, bits(STALE)),
            ("b", second.at_ms, bits(float(second.values[1]))),
            ("h", second.at_ms, bits(float(second.values[2]))),
        ]
    )
