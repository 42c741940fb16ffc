"""Our engine and a real Prometheus on the same samples.

Prometheus 2 closes windows on the left and Prometheus 3 opens them. No sample stands on a window's edge here,
so both agree; the edge itself is in `test_evaluate`.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from metering.promql.api import EvaluationError, evaluate, parse_expression
from metering.promql.organization import OrganizationHead
from tests.promql.samples import BASE_MS, dataset, fill, render_openmetrics
from tests.services.errors import ServiceFailed
from tests.services.fixtures import Services
from tests.services.http_service import HttpService
from tests.services.process import find_program
from tests.services.prometheus import run_prometheus

pytestmark = pytest.mark.services

TIMES_MS = (BASE_MS + 607_137, BASE_MS + 899_501, BASE_MS + 1_190_777)
EXPRESSIONS = """
temperature
temperature{room="attic"}
temperature{room=~"a.*|hall"}
temperature{room!~"a.*|hall"}
temperature{room!="attic",unit="C"}
temperature{nothing=""}
{__name__="limit",room=~".+"}
temperature > 20
temperature >= bool 20
20 < temperature
-temperature
temperature offset 5m
temperature offset -1m
requests_total > 100 < 1000000
rate(requests_total[5m])
rate(requests_total{code="500"}[3m] offset 2m)
increase(requests_total[7m])
delta(temperature[4m])
min_over_time(temperature[5m])
max_over_time(temperature[5m])
avg_over_time(temperature[5m])
sum_over_time(temperature[90s])
count_over_time(requests_total[2m])
last_over_time(temperature[2m])
rate(requests_total[1m])
sum(rate(requests_total[5m]))
sum by (job) (rate(requests_total[5m]))
sum without (instance, code) (rate(requests_total[5m]))
sum by (job, missing) (requests_total)
min by (job) (requests_total)
max without (job) (requests_total)
avg by (code) (requests_total)
count by (job) (requests_total > 1000)
count(temperature)
sum(requests_total{job="nobody"})
absent(temperature)
absent(nothing{room="attic",unit=~"C|F"})
absent(sum(nothing))
absent(stopped)
time()
time() - 60
vector(3)
vector(time())
1 + 2 * 3 ^ 2
5 % 3 == bool 2
temperature + 1
2 ^ temperature
temperature % 7
signed % 2
signed / 0
temperature - on(room) limit
temperature > on(room) limit
temperature - ignoring(unit) limit
temperature > ignoring(unit) limit
temperature > bool ignoring(unit) limit
temperature and on(room) limit > 21
temperature unless on(room) (limit > 21)
temperature or limit
temperature{room="attic"} or on(room) limit
sum by (job) (rate(requests_total{code="500"}[5m])) / sum by (job) (rate(requests_total[5m])) > 0.1
(requests_total{code="500"} / ignoring(code) requests_total{code="200"}) * 100
rate(requests_total[5m]) * 60 > 10 and on(instance) requests_total{code="500"}
signed ^ 0.5
"""
FAILING = ("requests_total / on(job) requests_total", "temperature + on(unit) temperature")

Result = dict[tuple[tuple[str, str], ...], float]


@pytest.fixture(scope="module")
def prometheus(session_services: Services, tmp_path_factory: pytest.TempPathFactory) -> HttpService:
    return session_services.start(run_oracle(tmp_path_factory.mktemp("oracle")))


@contextmanager
def run_oracle(folder: Path) -> Iterator[HttpService]:
    """Prometheus with the samples as blocks on its disk."""
    program = find_program("promtool", how_to_get="apt-get install prometheus")
    source = folder / "samples.om"
    source.write_text(render_openmetrics(dataset()))
    command = [program, "tsdb", "create-blocks-from", "openmetrics", "-q", str(source), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    flags = ["--storage.tsdb.retention.time=100y", "--log.level=error"]
    with run_prometheus(folder, "scrape_configs: []\n", flags) as service:
        yield service


@pytest.fixture(scope="module")
def head() -> OrganizationHead:
    return fill(dataset())


def ask(prometheus: HttpService, expression: str, at_ms: int) -> Result:
    query = urlencode({"query": expression, "time": f"{at_ms / 1000:.3f}"})
    answer = json.loads(prometheus.get(f"/api/v1/query?{query}"))["data"]
    if answer["resultType"] == "scalar":
        return {(): float(answer["result"][1])}
    return {tuple(sorted(found["metric"].items())): float(found["value"][1]) for found in answer["result"]}


@pytest.mark.parametrize("expression", EXPRESSIONS.strip().splitlines())
def test_the_same_value_as_prometheus(prometheus: HttpService, head: OrganizationHead, expression: str) -> None:
    tree = parse_expression(expression)
    for at_ms in TIMES_MS:
        expected = ask(prometheus, expression, at_ms)
        found = dict(evaluate(tree, head, at_ms).elements())
        assert found.keys() == expected.keys()
        for series, value in expected.items():
            same = math.isnan(value) and math.isnan(found[series])
            assert same or math.isclose(found[series], value, rel_tol=1e-12, abs_tol=1e-12), series


@pytest.mark.parametrize("expression", FAILING)
def test_what_has_no_value_in_prometheus_has_none_here(
    prometheus: HttpService, head: OrganizationHead, expression: str
) -> None:
    with pytest.raises(ServiceFailed, match="422"):
        ask(prometheus, expression, TIMES_MS[0])
    with pytest.raises(EvaluationError, match="side matches"):
        evaluate(parse_expression(expression), head, TIMES_MS[0])


def test_the_samples_make_most_expressions_say_something(prometheus: HttpService) -> None:
    """A comparison of empty answers would prove nothing."""
    answers = [ask(prometheus, expression, TIMES_MS[0]) for expression in EXPRESSIONS.strip().splitlines()]
    assert sum(bool(answer) for answer in answers) > 0.9 * len(answers)
