"""One rule and one query on 10,000 series: our head against the head of a Prometheus with the same samples.

Prometheus takes the samples by remote write, so that they are in its head too, and its own timing of an evaluation
is taken (`stats=all`), without HTTP and JSON. Both run on the same core, one after the other.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

from alerts.evaluation import evaluate_group
from alerts.rulefile import load_rule_files
from bench.identity import COLLECTOR, TENANT
from bench.machine import measured_core, note, pin_process, pinned
from bench.outcome import Budget, Outcome
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.series import WireSeries
from collector.wire.snappy import compress
from metering.promql.api import Head, HeadLimits, OrganizationHead, evaluate, parse_expression
from metering.record import BatchHeader, LabelSet, Lane, make_batch
from tests.services.http_service import HttpService, fetch
from tests.services.prometheus import run_prometheus

SERIES, SCRAPES, STEP_MS = 10_000, 41, 15_000
RULE = "rate(milvus_search_total[5m]) > 39"
QUERY = "sum by (cluster) (rate(milvus_search_total[5m]))"
RULE_FILE = f"groups:\n- name: bench\n  interval: 15s\n  rules:\n  - alert: Busy\n    expr: {RULE}\n"


@dataclass(frozen=True)
class _Stage:
    """Both engines with the same samples, the last of them at `at_ms`."""

    head: OrganizationHead
    prometheus: HttpService
    at_ms: int
    folder: Path

    def peer_seconds(self, expression: str) -> tuple[float, dict[LabelSet, float]]:
        """What Prometheus says the evaluation took, and its result."""
        query = urlencode({"query": expression, "time": f"{self.at_ms / 1000:.3f}", "stats": "all"})
        answer = json.loads(fetch(self.prometheus.port, f"/api/v1/query?{query}", timeout_seconds=60))["data"]
        values = {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in answer["result"]}
        return float(answer["stats"]["timings"]["execTotalTime"]), values


def rules(*, quick: bool) -> Outcome:
    """Milliseconds of one evaluation of an alert rule over 10,000 series."""
    with _stage() as stage:
        path = stage.folder / "rules.yaml"
        path.write_text(RULE_FILE)
        (group,) = load_rule_files([path], 3_600_000)

        def ours() -> int:
            result = evaluate_group(TENANT.organization, group, stage.head, stage.at_ms, SERIES)
            return len(result.results[0].active)

        found = ours()
        expected = len(stage.peer_seconds(RULE)[1])
        if found != expected or found == 0:
            raise AssertionError(f"the rule found {found} series and Prometheus {expected}")
        mine, theirs = _time(stage, ours, RULE, 10 if quick else 40)
    details = {"peer_is": "Prometheus", "series": SERIES, "expression": RULE, "alerts": found}
    return Outcome("rules", "ms per evaluation", mine, theirs, Budget(0.05), details)


def promql(*, quick: bool) -> Outcome:
    """Milliseconds of the instant query; the budget is of a range query, which the engine does not do yet."""
    expression = parse_expression(QUERY)
    with _stage() as stage:

        def ours() -> dict[LabelSet, float]:
            return dict(evaluate(expression, stage.head, stage.at_ms).elements())

        found, expected = ours(), stage.peer_seconds(QUERY)[1]
        same = found.keys() == expected.keys() and all(
            math.isclose(value, expected[labels], rel_tol=1e-9) for labels, value in found.items()
        )
        if not same or not found:
            raise AssertionError(f"ours {found}, Prometheus {expected}")
        mine, theirs = _time(stage, ours, QUERY, 10 if quick else 40)
    why = "the budget is of a range query over 24 hours; this is the instant query"
    details = {"peer_is": "Prometheus", "series": SERIES, "expression": QUERY, "why_not": why}
    return Outcome("promql", "ms per instant query", mine, theirs, Budget(0.25), details, extra_holds=False)


def _time(stage: _Stage, ours: Callable[[], object], expression: str, runs: int) -> tuple[list[float], list[float]]:
    mine, theirs = [], []
    for _ in range(runs):
        started = time.perf_counter()
        ours()
        mine.append((time.perf_counter() - started) * 1e3)
        theirs.append(stage.peer_seconds(expression)[0] * 1e3)
    note(f"{expression}: ours {statistics.median(mine):.2f} ms, Prometheus {statistics.median(theirs):.2f} ms")
    return mine, theirs


@contextmanager
def _stage() -> Iterator[_Stage]:
    at_ms = time.time_ns() // 1_000_000 // 1000 * 1000
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(measured_core()):
        folder = Path(text)
        head = Head(HeadLimits())
        flags = ["--web.enable-remote-write-receiver", "--log.level=error"]
        with run_prometheus(folder, "scrape_configs: []\n", flags) as prometheus:
            pin_process(prometheus.process.pid, measured_core())
            for scrape in range(SCRAPES):
                rows = _rows(scrape, at_ms - (SCRAPES - 1 - scrape) * STEP_MS - 137)
                header = BatchHeader(TENANT, COLLECTOR, Lane.BILLING, at_ms, "")
                head.ingest_batch(header, make_batch(rows))
                _push(prometheus.port, rows)
            yield _Stage(head.source(TENANT.organization), prometheus, at_ms, folder)


def _rows(scrape: int, moment_ms: int) -> list[tuple[LabelSet, int, float]]:
    """A counter of each series; a fortieth of them are fast enough for the rule."""
    return [
        (
            (
                ("__name__", "milvus_search_total"),
                ("cluster", f"c{number % 7}"),
                ("instance", f"10.0.{number % 40}.{number % 250}:9091"),
                ("node_id", str(number)),
            ),
            moment_ms,
            float(number + scrape * (number % 40) * 15.2),
        )
        for number in range(SERIES)
    ]


def _push(port: int, rows: list[tuple[LabelSet, int, float]]) -> None:
    series = [WireSeries(labels, ((at_ms, value),)) for labels, at_ms, value in rows]
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    connection.request("POST", "/api/v1/write", compress(encode_rw1(series)), headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 204:
        raise AssertionError(f"Prometheus answered {answer.status}: {body[:200]!r}")
