"""`byoc export focus|stripe`: files that another program accepts, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from focus_data_toolkit.validate.bundle import BundleReport, validate_dataset_bundle

from kernel.clock import to_ms
from kernel.errors import ByocError, Conflict, InvalidInput, NotFound
from kernel.ids import ClusterId, CollectorId, ProjectId
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.sealing import HourToSeal
from metering.usage.store import UsageStore
from tests.billing.deals import ACME, contract_text
from tests.billing.stripe_emulator import KEY
from tests.billing.stripe_emulator import Emulator as Stripe
from tests.billing.stripe_emulator import serving as serving_stripe
from tests.billing.test_cli import Desk

NAMES = {
    "cost-and-usage": "Cost and Usage",
    "invoice-detail": "Invoice Detail",
    "billing-period": "Billing Period",
    "contract-commitment": "Contract Commitment",
}
TAXED = 'tax: {category: S, rate: "19"}\n'


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def seal(desk: Desk, name: str, above: Sequence[int], files: str = "a") -> None:
    """Every hour of a month at 16 vCPU, and its first ones at so many more."""
    hours = list(hours_in(month(name)))
    more = [*above, *[0] * (len(hours) - len(above))]
    levels = [16_000 + 1000 * each for each in more]
    sealed = [_hour(hour, level, files) for hour, level in zip(hours, levels, strict=True)]
    UsageStore(desk.deployment.database()).seal(sealed, desk.deployment.clock.now_ms())


def _hour(hour: Window, level: int, files: str) -> HourToSeal:
    component = Component(ProjectId("main"), ClusterId("c1"), "query")
    row = ComponentHour(component, CollectorId("col-1"), level * HOUR_MS, HOUR_MS, 0, level, True)
    step = ((hour.start_ms, level), (hour.end_ms, 0))
    return HourToSeal(ACME, hour, (row,), step, (f"{files} sha",), f"{files}-{level}", 1, "watermark")


def close(desk: Desk, name: str, on: datetime) -> str:
    clock = desk.deployment.clock
    clock.step_wall((to_ms(on) - clock.now_ms()) / 1000)  # type: ignore[attr-defined]
    return desk.say("invoice", "finalize", "acme", name)


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Path]:
    """October to December, sealed, closed and corrected both ways, as a folder of FOCUS files.

    November turns out to be more once it is closed: December bills it. October turns out to be less: a credit note.
    """
    desk = Desk(tmp_path_factory.mktemp("quarter"))
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(more=TAXED)))
    seal(desk, "2026-10", [10, 4])
    assert "1.71 USD" in close(desk, "2026-10", datetime(2026, 11, 4, tzinfo=UTC))  # 840 minutes, and tax
    seal(desk, "2026-11", [6])
    close(desk, "2026-11", datetime(2026, 12, 4, tzinfo=UTC))
    seal(desk, "2026-11", [6, 20], files="b")
    seal(desk, "2026-10", [10], files="b")
    seal(desk, "2026-12", [0, 2])
    said = close(desk, "2026-12", datetime(2027, 1, 4, tzinfo=UTC))
    assert "credit-note for EXAMPLE-EU-2026-000002" in said
    folder = desk.folder / "focus"
    said = desk.say("export", "focus", "acme", "--from", "2026-10", "--to", "2027-01", "--out", str(folder))
    assert len(said.splitlines()) == 5
    return desk, folder


def read(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def validate(folder: Path) -> BundleReport:
    rows = {dataset: read(folder, name) for name, dataset in NAMES.items()}
    return validate_dataset_bundle(rows, invoice_detail_authoritative=True, rounding_tolerance=Decimal(0))


def lint(folder: Path, name: str) -> int:
    """The toolkit's own command on one file."""
    dataset = NAMES[name].lower().replace(" ", "-")
    command = [sys.executable, "-m", "focus_data_toolkit", "validate", str(folder / f"{name}.csv")]
    return subprocess.run([*command, "--dataset", dataset], check=False, capture_output=True).returncode


def test_three_months_with_late_usage_and_a_credit_note_lint_clean_and_reconcile_to_the_cent(
    quarter: tuple[Desk, Path],
) -> None:
    desk, folder = quarter
    report = validate(folder)
    assert report.ok, report.format()
    assert report.diagnostics == []
    assert "reconcile_invoice_detail" in report.checks_run
    assert [lint(folder, name) for name in NAMES] == [0] * len(NAMES)

    cost = read(folder, "cost-and-usage")
    listed = json.loads(desk.say("invoice", "list", "--json"))["documents"]
    gross = sum(Decimal(document["gross"]) for document in listed)
    assert sum(Decimal(row["BilledCost"]) for row in cost) == gross
    assert [row["BilledCost"] for row in read(folder, "cost-and-usage-1.2")] == [row["BilledCost"] for row in cost]
    corrections = {
        (row["BillingPeriodStart"][:7], row["ChargePeriodStart"][:7]) for row in cost if row["ChargeClass"]
    }
    assert corrections == {("2026-12", "2026-11"), ("2027-01", "2026-10")}
    closed = [row["BillingPeriodStatus"] for row in read(folder, "billing-period")]
    assert closed == ["Closed", "Closed", "Closed", "Open"]


def test_the_same_bundle_with_one_thing_wrong_is_found(quarter: tuple[Desk, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(quarter[1], tmp_path / "broken"))
    path = folder / "invoice-detail.csv"
    whole = path.read_text(encoding="utf-8")
    assert "14400.00" in whole
    path.write_text(whole.replace("14400.00", "14400.01", 1), encoding="utf-8")
    assert [found.code for found in validate(folder).errors] == ["FDT-CROSS-030"]
    path.write_text(whole.replace("BilledCost", "BilledCosts", 1), encoding="utf-8")
    assert lint(folder, "invoice-detail") == 1
    assert not validate(folder).ok


@pytest.mark.parametrize(
    ("words", "refusal", "match"),
    [
        (["acme", "--from", "2026-13", "--to", "2026-13"], InvalidInput, "2026-13"),
        (["acme", "--from", "2026-11", "--to", "2026-10"], InvalidInput, "not before 2026-11"),
        (["Not an id", "--from", "2026-10", "--to", "2026-10"], InvalidInput, "organization"),
        (["acme", "--from", "2026-10", "--to", "2026-10"], NotFound, "no document"),
    ],
)
def test_focus_refuses_bad_input_and_writes_nothing(
    desk: Desk, words: list[str], refusal: type[ByocError], match: str
) -> None:
    with pytest.raises(refusal, match=match):
        desk.invoke("export", "focus", *words, "--out", str(desk.folder / "out"))
    assert not (desk.folder / "out").exists()


def test_focus_into_a_file_is_an_error_that_names_it(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("contract.yaml", contract_text()))
    desk.say("invoice", "commitments", "acme-2026")
    taken = desk.file("taken", "")
    with pytest.raises(ByocError, match="taken can't be written"):
        desk.invoke("export", "focus", "acme", "--from", "2026-10", "--to", "2026-12", "--out", taken)
    assert Path(taken).read_text() == ""


def test_an_invoice_goes_to_stripe_once_by_command(desk: Desk) -> None:
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(more=TAXED)))
    number = desk.say("invoice", "commitments", "acme-2026").split()[0]
    key = desk.file("stripe.key", KEY + "\n")
    emulator = Stripe()
    with serving_stripe(emulator) as address:
        words = ["--customer", "cus_1", "--key-file", key, "--address", address]
        first = desk.say("export", "stripe", number, *words)
        assert desk.say("export", "stripe", number, *words) == first
        assert [one["number"] for one in emulator.invoices.values()] == [number]
        with pytest.raises(NotFound):
            desk.invoke("export", "stripe", "EXAMPLE-EU-2026-000099", *words)
        with pytest.raises(ByocError, match=r"missing\.key can't be read"):
            desk.invoke("export", "stripe", number, "--customer", "cus_1", "--key-file", "missing.key")
        with pytest.raises(InvalidInput, match="https"):
            desk.invoke("export", "stripe", number, *words[:4], "--address", "http://stripe.example.com")
        desk.say("invoice", "void", number, "--reason", "wrong address")
        with pytest.raises(Conflict, match="nothing to collect"):
            desk.invoke("export", "stripe", number, *words)
    assert KEY not in first
