"""A real Prometheus scrapes the same body: what it stores, we send."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from collector.exposition import ExpositionError, Reader
from collector.exposition.columnar import ColumnReader
from collector.exposition.native import NativeReader
from collector.labels import METRIC_NAME, make_labels, render_labels
from collector.native import KeyTable
from tests.collector.exposing import keys_by_number
from tests.collector.test_exposition import ACCEPTED, OM_ACCEPTED, OM_REFUSED, TEXT_REFUSED
from tests.collector.world import Page, run_target
from tests.services.fixtures import StartPrometheus
from tests.services.http_service import HttpService

TEXT = "text/plain; version=0.0.4"
OM = "application/openmetrics-text; version=1.0.0"
LINES = rb"""# HELP milvus_a help with "quotes" and \\ slashes
# TYPE milvus_a counter
milvus_a{b="c",} 1
milvus_a { b = "d" , e="f" } 2.5
milvus_a{b="no" e="comma"} 3
milvus_b{esc="q\"s\\n\nl\t"} +Inf
milvus_b{esc="-"} -Inf
milvus_c NaN
milvus_d 4.9e-324
milvus_e 1.7976931348623157e308
milvus_f	7
# HELPER not a help
#milvus_g 1
milvus_h{x=""} 8
milvus_i{__x="1"} 9
# TYPE milvus_j histogram
milvus_j_bucket{le="1"} 1
milvus_j_bucket{le="+Inf"} 2
milvus_j_sum 3
milvus_j_count 2
"""
OM_LINES = b"""# TYPE milvus_k counter
# UNIT milvus_l_bytes bytes
# TYPE milvus_l_bytes gauge
milvus_k_total{a="b"} 1 # {trace_id="x"} 2 3.5
milvus_k_created{a="b"} 1520872607.123
milvus_l_bytes 5
# EOF
"""
REFUSED = [b"a{b='c'} 1", b"a true", b"foo 1_2", b"foo 0x1p-3", b'{x="y"} 1', b"# TYPE #", b"a 1\r", b"a\x00 1",
           b"a 1 2 3", b'a{b="c",,d="e"} 1', b"a 1e400", b"# TYPE a wrong", b"a{,} 1", b"a 1 -5",
           b"\ta 1"]  # fmt: skip


def ours(body: bytes, content_type: str) -> dict[str, float]:
    """By each reader, the second time as a known body, which must say the same."""
    found = [by_reader(ColumnReader(), body, content_type)]
    if KeyTable is not None:
        found.append(by_reader(NativeReader(KeyTable), body, content_type))
    assert len({repr(sorted(series.items())) for series in found}) == 1  # which rows are odd differs
    return found[0]


def by_reader(reader: Reader, body: bytes, content_type: str) -> dict[str, float]:
    found: list[dict[str, float]] = []
    numbers: dict[int, bytes] = {}
    for _ in range(2):
        reading = reader.read(bytearray(body), content_type)
        series: dict[str, float] = {}
        numbers = keys_by_number(reading, numbers)
        for row, number in enumerate(reading.numbered.rows.tolist()):
            name, labels = reading.parse(numbers[number])
            series.setdefault(render_labels(make_labels({**labels, METRIC_NAME: name})), float(reading.values[row]))
        found.append(series)
        reader.keep(reading)
    assert repr(found[0]) == repr(found[1])
    return found[0]


def query(server: HttpService, expression: str) -> dict[str, float]:
    answer: Any = json.loads(server.get(f"/api/v1/query?query={quote(expression)}"))
    return {
        render_labels(make_labels({k: v for k, v in one["metric"].items() if k not in ("job", "instance")})): float(
            one["value"][1]
        )
        for one in answer["data"]["result"]
    }


async def stored_by(server: HttpService, job: str, series: int) -> dict[str, float]:
    """What Prometheus has of a job, once it has that many series, or after a bounded time."""
    found: dict[str, float] = {}
    for _ in range(100):
        found = await asyncio.to_thread(query, server, f'{{__name__=~"milvus_.*",job="{job}"}}')
        if len(found) >= series:
            break
        await asyncio.sleep(0.1)
    return found


@pytest.mark.services
async def test_values_and_refusals_are_those_of_prometheus(
    start_prometheus: StartPrometheus, tmp_path: Path
) -> None:
    pages = {"text": Page(LINES, TEXT), "om": Page(OM_LINES, OM)}
    pages |= {f"refused{number}": Page(b"ok 1\n" + line + b"\n", TEXT) for number, line in enumerate(REFUSED)}

    class Chooser(Page):
        async def answer(self, request: Any) -> Any:
            return await pages[request.path.strip("/")].answer(request)

    async with run_target(Chooser()) as port:
        jobs = "".join(
            f"- {{job_name: {name}, metrics_path: /{name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
            for name in pages
        )
        config = f"global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}"
        server = await asyncio.to_thread(start_prometheus, config)
        async with asyncio.timeout(30):
            while any(page.scrapes < 2 for page in pages.values()):  # noqa: ASYNC110 - a real server, polled
                await asyncio.sleep(0.1)
        for name, body, content_type in (("text", LINES, TEXT), ("om", OM_LINES, OM)):
            expected = ours(body, content_type)
            theirs = await stored_by(server, name, len(expected))
            assert theirs.keys() == expected.keys()
            for series, value in expected.items():
                assert theirs[series] == value or (math.isnan(value) and math.isnan(theirs[series])), series
        up = json.loads(await asyncio.to_thread(server.get, "/api/v1/query?query=up"))
    judged = {one["metric"]["job"]: one["value"][1] for one in up["data"]["result"]}
    for number, line in enumerate(REFUSED):
        assert judged[f"refused{number}"] == "0", line
        with pytest.raises(ExpositionError):
            ours(line, TEXT)


NOT_JUDGED = (b'{"', b'9","', b"# {} 4", b"\n\x00")


def is_for_2(body: bytes) -> bool:
    """Debian's Prometheus is older than quoted names and empty exemplars, and takes a NUL for the body's end."""
    return not any(part in body for part in NOT_JUDGED)


@pytest.mark.services
async def test_every_spelling_of_our_tables_is_judged_as_prometheus_judges_it(
    start_prometheus: StartPrometheus,
) -> None:
    bodies = [(b"ok 1\n" + line + b"\n", TEXT) for line, *_ in ACCEPTED]
    bodies += [(b"# TYPE request_count counter\nok 0\n" + line + b"\n# EOF\n", OM) for line, *_ in OM_ACCEPTED]
    bodies += [(b"ok 1\n" + line, TEXT) for line in TEXT_REFUSED]
    bodies += [(body, OM) for body in OM_REFUSED]
    bodies = [(body, kind) for body, kind in bodies if is_for_2(body)]
    pages = [Page(body, kind) for body, kind in bodies]

    class Chooser(Page):
        async def answer(self, request: Any) -> Any:
            return await pages[int(request.path.strip("/"))].answer(request)

    async with run_target(Chooser()) as port:
        jobs = "".join(
            f"- {{job_name: 'j{n}', metrics_path: /{n}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
            for n in range(len(pages))
        )
        config = f"global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nscrape_configs:\n{jobs}"
        server = await asyncio.to_thread(start_prometheus, config)
        async with asyncio.timeout(60):
            while any(page.scrapes < 2 for page in pages):  # noqa: ASYNC110 - a real server, polled
                await asyncio.sleep(0.1)
        up = json.loads(await asyncio.to_thread(server.get, "/api/v1/query?query=up"))
    judged = {one["metric"]["job"]: one["value"][1] == "1" for one in up["data"]["result"]}
    differs = []
    for number, (body, kind) in enumerate(bodies):
        try:
            ours(body, kind)
        except ExpositionError:
            accepted = False
        else:
            accepted = True
        if accepted is not judged[f"j{number}"]:
            differs.append((body, kind, accepted))
    assert not differs
