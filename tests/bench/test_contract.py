"""What a caller of `python -m bench` may rely on: names, the last line of stdout, exit statuses, files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from bench import invoices, usage
from bench.__main__ import NOT_MEASURED, main
from bench.outcome import Budget, Outcome
from bench.registry import BENCHMARKS, UNMEASURED
from tests.services.errors import ServiceUnavailable

NAMES = {
    "collector-quiet", "collector", "collector-churn", "egress", "memory", "ingest", "ingest-rw1", "gateway",
    "neighbour", "lake", "usage", "invoices", "verify", "promql", "rules", "pages", "freshness", "growth",
    "growth-vendor", "targets", "milvus", "ingest-kafka", "queryable", "numbers", "documents", "tenants", "close",
    "drafts",
}  # fmt: skip
KEYS = ["name", "unit", "ours", "peer", "ratio", "budget", "holds", "machine", "runs", "details"]


def test_every_name_of_the_design_is_measured_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {line.partition(":")[0] for line in listed} == NAMES == {*BENCHMARKS, *UNMEASURED}
    assert not BENCHMARKS.keys() & UNMEASURED.keys()


def test_what_is_not_measured_prints_no_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.__main__.UNMEASURED", {"later": "it is not written"})
    assert main(["later"]) == NOT_MEASURED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "later: not measured yet: it is not written" in captured.err


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["colector"])
    assert stopped.value.code == 2
    assert "--list" in capsys.readouterr().err


def test_the_last_line_of_stdout_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    """With a benchmark that is real, of three customers."""
    assert main(["invoices", "--quick"], {"invoices": partial(invoices.measure, customers=3, runs=1)}) == 0
    captured = capsys.readouterr()
    [line] = captured.out.splitlines()
    found = json.loads(line)
    assert list(found) == KEYS
    assert (found["name"], found["peer"], found["ratio"], found["budget"]) == ("invoices", None, None, 30.0)
    assert len(found["runs"]) == 1
    assert found["ours"] > 0
    assert found["details"]["byte_identical_again"]
    assert found["details"]["customers"] == 3
    assert "3 customers" in captured.err


def test_usage_compares_every_figure_with_the_peer() -> None:
    found = json.loads(usage.measure(quick=True, clusters=1).render())
    assert found["details"]["equal_figures"] == 24 * 3
    assert found["details"]["samples"] == 3 * 24 * 240
    assert found["ratio"] == pytest.approx(found["ours"] / found["peer"], rel=1e-2)


def test_all_writes_a_file_for_each_and_goes_on_after_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_peer(*, quick: bool) -> Outcome:
        raise ServiceUnavailable("no peer in PATH")

    def measured(*, quick: bool) -> Outcome:
        return Outcome("invoices", "seconds", [1.0], [], Budget(30))

    (tmp_path / "promql.json").write_text("of an earlier run")
    status = main(["all", "--quick"], {"promql": without_peer, "invoices": measured}, tmp_path)
    assert status == NOT_MEASURED
    assert [path.name for path in tmp_path.iterdir()] == ["invoices.json"]
    assert json.loads((tmp_path / "invoices.json").read_text())["name"] == "invoices"
    assert "no peer in PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "peer", "budget", "extra", "holds"),
    [
        ([1.0, 9.0, 2.0], [10.0], Budget(0.2), True, True),  # the median, 2.0, is a fifth
        ([3.0], [10.0], Budget(0.2), True, False),
        ([2.0], [10.0], Budget(0.2), False, False),  # not the same work
        ([29.0], [], Budget(30), True, True),
        ([31.0], [], Budget(30), True, False),
        ([2e6], [], Budget(1e6, is_at_most=False), True, True),
        ([9e5], [], Budget(1e6, is_at_most=False), True, False),
    ],
)
def test_a_budget_holds_by_the_ratio_or_else_by_the_figure(
    ours: list[float], peer: list[float], budget: Budget, *, extra: bool, holds: bool
) -> None:
    outcome = Outcome("x", "unit", ours, peer, budget, extra_holds=extra)
    assert outcome.holds is holds
    assert json.loads(outcome.render())["holds"] is holds
