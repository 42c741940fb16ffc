"""`byoc usage` on sealed hours in a real database."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from console.migrate import migrate
from kernel.clock import VirtualClock
from kernel.database import Database, sqlite_url
from kernel.errors import ByocError, InvalidInput, NotFound
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.cli import MAX_HOURS, app, parse_hours
from metering.usage.model import GapRule
from metering.usage.reconciliation import DeclaredCluster, Level
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.usage.months import seen, to_seal

FEBRUARY = month("2026-02")


@dataclass
class Vendor:
    opened: Database
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(FEBRUARY.end))

    def database(self) -> Database:
        return self.opened

    def section(self, name: str, model: type[UsageSettings]) -> UsageSettings:
        return model()

    def declared(self, organization: OrganizationId) -> list[DeclaredCluster]:
        """A cluster of 4 vCPU that was scaled to 6 an hour after midnight."""
        levels = (Level(0, 4000, 4000), Level(FEBRUARY.start_ms + HOUR_MS, 6000, 6000))
        return [DeclaredCluster(ProjectId("prod"), ClusterId("orders"), levels)]


class VendorWithLicences(Vendor):
    def capacity_of(self, organization: OrganizationId) -> StepFunction:
        return StepFunction.constant(FEBRUARY, 1000 if organization == "acme" else 0)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A February of which the first two hours are sealed."""
    opened = Database(sqlite_url(tmp_path_factory.mktemp("vendor") / "byoc.sqlite"))
    migrate(opened)
    hours = list(hours_in(FEBRUARY))[:2]
    UsageStore(opened).seal([to_seal(hour, seen(hour, 4000)) for hour in hours], FEBRUARY.end_ms)
    yield opened
    opened.close()


def run(vendor: Vendor, *words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), obj=vendor, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def test_report_writes_four_files_and_marks_an_open_month(database: Database, tmp_path: Path) -> None:
    output = run(VendorWithLicences(database), "report", "acme", "2026-02", "--out", str(tmp_path))
    assert "provisional" in output
    document = json.loads((tmp_path / "report.json").read_bytes())
    assert document["sealed"] is False
    assert document["licence"]["overage_milli_vcpu_ms"] == str(3000 * 2 * HOUR_MS)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"report.{ext}" for ext in ("json", "csv", "parquet", "pdf")
    }


def test_report_without_a_licence_book_has_no_licence_part(database: Database, tmp_path: Path) -> None:
    run(Vendor(database), "report", "acme", "2026-02", "--out", str(tmp_path))
    assert json.loads((tmp_path / "report.json").read_bytes())["licence"] is None


def test_report_of_an_unknown_organization(database: Database, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no closed hour of nobody"):
        run(Vendor(database), "report", "nobody", "2026-02", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_report_into_a_file(database: Database, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ByocError, match="choose another --out"):
        run(Vendor(database), "report", "acme", "2026-02", "--out", str(tmp_path / "taken"))


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["report", "Not an id", "2026-02"], "organization"),
        (["report", "acme", "2026-13"], "month"),
        (["report", "acme", "2026-02", "--zone", "Mars/Base"], "time zone"),
    ],
)
def test_report_refuses_bad_input(database: Database, tmp_path: Path, words: list[str], where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        run(Vendor(database), *words, "--out", str(tmp_path))
    assert refused.value.findings[0].where == where


def test_hours_as_a_table_and_as_csv(database: Database) -> None:
    span = ["hours", "acme", "--from", "2026-02-01", "--to", "2026-02-01T03:00Z"]
    table = run(Vendor(database), *span)
    assert "prod/orders/query" in table
    assert "(not every hour is closed)" in table
    rows = list(csv.DictReader(io.StringIO(run(Vendor(database), *span, "--csv"))))
    assert [row["vcpu_hours"] for row in rows] == ["4.0000000000"] * 2


def test_reconcile_names_the_hours_that_differ_and_flags_every_row(tmp_path: Path) -> None:
    opened = Database(sqlite_url(tmp_path / "byoc.sqlite"))
    migrate(opened)
    hours = list(hours_in(FEBRUARY))[:2]
    UsageStore(opened).seal([to_seal(hour, seen(hour, 4000)) for hour in hours], FEBRUARY.end_ms)
    vendor = Vendor(opened)
    span = ["acme", "--from", "2026-02-01", "--to", "2026-02-02"]
    assert [row["reconciled"] for row in csv_rows(run(vendor, "hours", *span, "--csv"))] == ["", ""]

    said = run(vendor, "reconcile", *span, status=1)
    assert "2 cluster-hours compared, 1 differ" in said
    [line] = [line for line in said.splitlines() if "prod/orders" in line]
    assert line.split() == [
        "2026-02-01",
        "01:00",
        "1",
        "prod/orders",
        "less",
        "4.0000",
        "5.9667",
        "6.0000",
        "-1.9667",
    ]
    assert "less: less was scraped than was declared to run" in said
    assert "by more than 1 vCPU-minutes and 1.00 % of what was declared" in said
    assert "2 of 24 hours are closed" in said
    assert [row["reconciled"] for row in csv_rows(run(vendor, "hours", *span, "--csv"))] == ["true", "false"]
    assert [line.split()[-1] for line in run(vendor, "hours", *span).splitlines()[1:3]] == ["yes", "no"]

    run(vendor, "report", "acme", "2026-02", "--out", str(tmp_path / "out"))
    document = json.loads((tmp_path / "out" / "report.json").read_bytes())["reconciliation"]
    assert (document["cluster_hours"], document["differing"]) == ("2", "1")
    assert document["differences"][0]["window"]["start"] == "2026-02-01T01:00:00.000Z"
    assert pq.read_table(tmp_path / "out" / "report.parquet")["reconciled"].to_pylist() == [True, False]
    opened.close()


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_reconcile_refuses_bad_input(database: Database) -> None:
    with pytest.raises(InvalidInput, match="--from"):
        run(Vendor(database), "reconcile", "acme", "--from", "2026-02-01T00:01", "--to", "2026-02-02")
    with pytest.raises(NotFound, match="no closed hour"):
        run(Vendor(database), "reconcile", "nobody", "--from", "2026-02-01", "--to", "2026-02-02")


def test_hours_take_an_offset() -> None:
    assert parse_hours("2026-02-01T01:00+01:00", "2026-02-01T02:00Z").length_ms == 2 * HOUR_MS


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-02-01T00:30", "2026-02-02"),
        ("2026-02-01T00:00:00.0001", "2026-02-02"),
        ("2026-02-02", "2026-02-02"),
        ("2026-02-02", "2026-02-01"),
        ("2000-01-01", "2026-02-01"),
        ("yesterday", "2026-02-01"),
        ("0001-01-01T00:00+23:00", "2026-02-01"),
    ],
)
def test_windows_that_are_refused(start: str, end: str) -> None:
    with pytest.raises(InvalidInput):
        parse_hours(start, end)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_window_or_refused(start: str, end: str) -> None:
    try:
        window = parse_hours(start, end)
    except InvalidInput:
        return
    assert window.length_ms % HOUR_MS == 0
    assert window.length_ms <= MAX_HOURS * HOUR_MS


class VendorWithContract(Vendor):
    def gap_rule_of(self, organization: OrganizationId, window: Window) -> GapRule:
        return GapRule("hold-last", HOUR_MS // 4)


def test_what_is_estimated_is_flagged_by_hours_and_report(tmp_path: Path) -> None:
    """Half an hour is missing: a quarter of an hour counts at the level before, by the contract."""
    opened = Database(sqlite_url(tmp_path / "byoc.sqlite"))
    migrate(opened)
    first, second = list(hours_in(FEBRUARY))[:2]
    half = to_seal(first, seen(first, 4000, until_ms=HOUR_MS // 2))
    UsageStore(opened).seal([half, to_seal(second, seen(second, 4000))], FEBRUARY.end_ms)
    vendor, span = VendorWithContract(opened), ["acme", "--from", "2026-02-01", "--to", "2026-02-01T03:00Z"]
    table = run(vendor, "hours", *span)
    assert "900.000 *" in table
    assert "* 0.250 component-hours are estimated by the contract's gap policy: 1.000000 vCPU-hours more" in table
    assert [row["estimated_ms"] for row in csv_rows(run(vendor, "hours", *span, "--csv"))] == ["900000", "0"]
    assert "estimated" not in run(Vendor(opened), "hours", *span).splitlines()[-1]
    run(vendor, "report", "acme", "2026-02", "--out", str(tmp_path / "out"))
    document = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert document["estimated"]["estimated_ms"] == "900000"
    opened.close()


def test_gaps_are_listed(database: Database) -> None:
    said = run(Vendor(database), "gaps", "acme", "--from", "2026-02-01", "--to", "2026-02-01T03:00Z")
    assert said.splitlines()[-1].endswith("component-seconds without data")
