"""`make focus`: three months, invoiced and exported; what the command says is what its files hold."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from billing.exports.focus.check import check_files

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_months_are_exported_and_lint_clean(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-m", "console.demo.quarter", "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("focus-data-toolkit finds nothing; all amounts agree to 0.00\n")
    documents = [json.loads(path.read_bytes()) for path in sorted((out / "documents").rglob("EXAMPLE*.json"))]
    usage = [one for one in documents if one["kind"] == "usage"]
    assert [one["period"]["name"] for one in usage] == ["2026-07", "2026-08", "2026-09", "2026-09"]
    for one in usage:
        [overage] = [line for line in one["lines"] if line["kind"] == "overage"]
        assert Decimal(overage["amount"]) > 10, "each month has usage above the commitment"
    assert any(line["kind"] == "correction:overage" for line in usage[1]["lines"])
    with (out / "focus" / "cost-and-usage.csv").open(newline="") as file:
        billed = sum(Decimal(row["BilledCost"]) for row in csv.DictReader(file))
    voided = usage[2]["totals"]["gross"]
    assert billed == sum(Decimal(one["totals"]["gross"]) for one in documents) - Decimal(voided)
    assert check_files(out / "focus") == []
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert (again.returncode, "exists" in again.stderr) == (2, True), "nothing is written over"
