"""`byoc close` of everybody: documents on disk, a summary with every exception, and the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from billing.api import ContractBook, Receivables
from billing.document import utc_ms
from billing.errors import NoContract
from console.cli import build_app
from console.wiring import Vendor, open_vendor
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.window import month
from metering.usage.store import UsageStore
from tests.billing.deals import contract_text


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return open_vendor(tmp_path / "vendor", None)


def add(vendor: Vendor, *texts: str) -> None:
    book = ContractBook(vendor.database(), vendor.clock, vendor.audit())
    for text in texts:
        book.add_contract(text, "contract.yaml", "test")


def close(vendor: Vendor, out: Path, *more: str) -> tuple[int, Any]:
    where = ["--dir", str(vendor.folder)]
    words = [*where, "close", "2026-10", "--out", str(out), "--processes", "1", *more]
    result = CliRunner().invoke(build_app(words), words, catch_exceptions=False)
    return result.exit_code, json.loads((out / "summary.json").read_text())


def test_everybody_is_closed_and_again_the_same(vendor: Vendor, tmp_path: Path) -> None:
    add(
        vendor,
        contract_text("acme"),
        contract_text("other"),
        contract_text("later", term=("2027-01-01", "2028-01-01")),
    )
    add(vendor, contract_text("waiting").replace("grace_hours: 48", "grace_hours: 2000"))
    out = tmp_path / "out"
    code, summary = close(vendor, out)
    assert code == 1
    assert summary["documents"] == {"commitment": "3", "usage": "2"}
    [refused] = summary["refused"]
    assert refused["organization"] == "waiting"
    assert "2000 hours" in refused["reason"]
    assert summary["gross"] == {"commitment USD": "43200.00", "usage USD": "0.00"}
    written = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    assert len([path for path in written if path.suffix == ".pdf"]) == 5
    again, same = close(vendor, out)
    assert (again, same["documents"], same["refused"]) == (1, summary["documents"], summary["refused"])
    for path, content in written.items():
        if path.name != "summary.json":
            assert (out / path).read_bytes() == content, path


@pytest.mark.slow
def test_several_processes_close_what_one_does(tmp_path: Path) -> None:
    """More organizations than a process takes at once, one of them refused with a finding of its own."""
    found = []
    for processes in ("1", "3"):
        vendor = open_vendor(tmp_path / f"vendor-{processes}", None)
        add(vendor, *(contract_text(f"customer-{number}") for number in range(9)))
        add(vendor, contract_text("waiting").replace("grace_hours: 48", "grace_hours: 2000"))
        code, summary = close(vendor, tmp_path / f"out-{processes}", "--processes", processes, "--no-pdf")
        found.append((code, {**summary, "checkpoints": None}))
        usage = UsageStore(vendor.database())
        for number in range(9):
            assert usage.month(OrganizationId(f"customer-{number}"), month("2026-10")).sealed
    assert found[0] == found[1]
    assert found[0][1]["hour_revisions"] == str(10 * 31 * 24)
    assert found[0][1]["documents"]["usage"] == "9"


def test_nobody_to_close_is_said(vendor: Vendor, tmp_path: Path) -> None:
    add(vendor, contract_text("later", term=("2027-01-01", "2028-01-01")))
    with pytest.raises(NoContract):
        close(vendor, tmp_path / "out")


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/Los_Angeles"])
def test_a_month_of_one_is_closed_in_the_zone_of_its_contract(vendor: Vendor, tmp_path: Path, zone: str) -> None:
    add(vendor, contract_text("acme", more=f"time_zone: {zone}\n"))
    said = close_one(vendor, tmp_path / "out")
    assert "usage\t2026-10\t0.00 USD" in said
    assert str(tmp_path / "out" / "invoice.json") in said
    invoice = json.loads((tmp_path / "out" / "invoice.json").read_text())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    window = month("2026-10", zone)
    assert utc_ms(invoice["period"]["start"]) == window.start_ms
    assert (report["zone"], report["sealed"]) == (zone, True)
    asked = ["--dir", str(vendor.folder), "usage", "report", "acme", "2026-10", "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(build_app(asked), asked, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "again" / "report.json").read_bytes() == (tmp_path / "out" / "report.json").read_bytes()


def test_a_zone_that_is_named_is_of_the_report_alone(vendor: Vendor, tmp_path: Path) -> None:
    add(vendor, contract_text("acme", more="time_zone: Asia/Kolkata\n"))
    close_one(vendor, tmp_path / "out", "--zone", "America/Los_Angeles")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["zone"], report["sealed"]) == ("America/Los_Angeles", True)


def test_two_contracts_of_one_are_closed_each_in_its_zone_with_an_invoice_each(
    vendor: Vendor, tmp_path: Path
) -> None:
    beside = contract_text("acme", contract="acme-meters", vcpu=0, on_demand=False, more="time_zone: Asia/Tokyo\n")
    add(vendor, contract_text("acme", more="time_zone: America/New_York\n"), beside)
    close_one(vendor, tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"invoice-acme-{name}.{kind}" for name in ("2026", "meters") for kind in ("json", "pdf")} <= written
    assert json.loads((tmp_path / "out" / "report.json").read_text())["zone"] == "America/New_York"


@pytest.mark.parametrize("who", [[], ["--organization", "acme"]], ids=["everybody", "one"])
def test_nothing_runs_before_it_is_known_that_the_documents_can_be_written(
    vendor: Vendor, tmp_path: Path, who: list[str]
) -> None:
    add(vendor, contract_text("acme"))
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for out in (tmp_path / "file", tmp_path / "file" / "below" / "it", tmp_path / "dangling", Path("/proc/1/out")):
        words = ["--dir", str(vendor.folder), "close", "2026-10", "--out", str(out), *who]
        with pytest.raises(InvalidInput, match=r"command line: --out: found .*a folder that can be written to"):
            CliRunner().invoke(build_app(words), words, catch_exceptions=False)
    assert Receivables(vendor.database(), vendor.clock, vendor.audit()).statement(OrganizationId("acme")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file", "vendor"]


def close_one(vendor: Vendor, out: Path, *more: str) -> str:
    words = ["--dir", str(vendor.folder), "close", "2026-10", "--organization", "acme", "--out", str(out), *more]
    result = CliRunner().invoke(build_app(words), words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output
