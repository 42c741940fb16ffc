"""`byoc close` of everybody: documents on disk, a summary with every exception, and the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from billing.api import ContractBook
from billing.errors import NoContract
from console.cli import build_app
from console.wiring import Vendor, open_vendor
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


def test_nobody_to_close_is_said(vendor: Vendor, tmp_path: Path) -> None:
    add(vendor, contract_text("later", term=("2027-01-01", "2028-01-01")))
    with pytest.raises(NoContract):
        close(vendor, tmp_path / "out")
