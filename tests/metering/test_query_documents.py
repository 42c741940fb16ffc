"""The shapes of Prometheus' HTTP API for metadata and exemplars (its querying/api page), by organization."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from metering.query_documents import exemplars_document, metadata_document
from metering.samples import Metadata
from tests.lake.beside_world import Told, append
from tests.lake.setting import OTHER, T0, memory_log, open_lake, writer_of

TRACE = b"traceID\xffEpTxMJ40fUus7aGY\xff"
HOUR = T0, T0 + 3_600_000


async def test_metadata_and_exemplars_have_the_shapes_of_prometheus(tmp_path: Path) -> None:
    log, lake = await memory_log(1), await open_lake(tmp_path)
    threads = Metadata("go_threads", "gauge", "Number of OS threads created.", "")
    await append(
        log,
        [
            Told("go_threads", T0, family=threads),
            Told("go_threads", T0, family=threads, collector="col-b"),
            Told("go_threads", T0, family=Metadata("go_threads", "gauge", "Threads."), collector="col-c"),
            Told(
                "test_total",
                T0 + 1_479,
                exemplar=(TRACE, 6.0),
                family=Metadata("test", "counter", "It counts.", "x"),
            ),
            Told("test_total", T0 + 3_600_001, exemplar=(b"", 7.5)),
            Told("secret_total", T0, exemplar=(TRACE, 1.0), family=Metadata("secret", "counter"), tenant=OTHER),
        ],
    )
    await writer_of(lake, log).drain()
    assert await metadata_document(lake, "acme") == {
        "status": "success",
        "data": {
            "go_threads": [
                {"type": "gauge", "help": "Number of OS threads created.", "unit": ""},
                {"type": "gauge", "help": "Threads.", "unit": ""},
            ],
            "test": [{"type": "counter", "help": "It counts.", "unit": "x"}],
        },
    }
    limited = (await metadata_document(lake, "acme", limit=1, limit_per_metric=1))["data"]
    assert {family: len(told) for family, told in limited.items()} == {"go_threads": 1}
    assert list((await metadata_document(lake, "acme", metric="test"))["data"]) == ["test"]
    expected = {
        "seriesLabels": {"__name__": "test_total"},
        "exemplars": [
            {"labels": {"traceID": "EpTxMJ40fUus7aGY"}, "value": "6", "timestamp": (T0 + 1_479) / 1000},
        ],
    }
    for query in ("test_total", 'rate({__name__=~"te.*"}[5m]) > 1', "test_total + nothing"):
        assert await exemplars_document(lake, "acme", query, *HOUR) == {"status": "success", "data": [expected]}
    longer = await exemplars_document(lake, "acme", "test_total", T0, T0 + 3_600_001)
    assert [one["value"] for one in longer["data"][0]["exemplars"]] == ["6", "7.5"]
    assert (await exemplars_document(lake, "org-b", "test_total", *HOUR))["data"] == []
    with pytest.raises(InvalidInput, match="end"):
        await exemplars_document(lake, "acme", "test_total", T0, T0 - 1)
    with pytest.raises(InvalidInput, match="query"):
        await exemplars_document(lake, "acme", "test_total{", *HOUR)
    with pytest.raises(InvalidInput, match="limit"):
        await metadata_document(lake, "acme", limit=-1)
