"""Written FOCUS files before focus-data-toolkit, which is not ours: each alone, then money and ids across them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from billing.exports.focus.bundle import COMMITMENTS, COST, DETAIL, PERIODS
from billing.exports.focus.charges import Row
from kernel.errors import ByocError, truncate

DATA_SETS: Mapping[str, str] = {
    COST: "Cost and Usage",
    DETAIL: "Invoice Detail",
    PERIODS: "Billing Period",
    COMMITMENTS: "Contract Commitment",
}
VOID_LINES = "FDT-CROSS-031"  # a warning: lines of void documents are in Invoice Detail alone, as they should


def check_files(folder: Path) -> list[str]:
    """What the toolkit finds wrong with the files of `write_bundle`; empty: nothing. Amounts must agree to 0.00.

    Raises ByocError: the toolkit is not installed, or a file can't be read.
    """
    try:
        from focus_data_toolkit.model.validator import lint_focus_1_4_structure
        from focus_data_toolkit.validate.bundle import validate_dataset_bundle
    except ImportError as missing:
        raise ByocError("the check needs focus-data-toolkit: `pip install 'byoc[focus]'`") from missing
    rows = {dataset: _read(folder / f"{name}.csv") for name, dataset in DATA_SETS.items()}
    found = []
    for dataset, each in rows.items():
        report = lint_focus_1_4_structure(dataset, each)
        found += [f"{dataset}: {message}" for message in report.messages()]
    across = validate_dataset_bundle(rows, invoice_detail_authoritative=True, rounding_tolerance=Decimal(0))
    found += [f"across: {one.code} {one.message}" for one in across.diagnostics if one.code != VOID_LINES]
    if not across.ok and not found:
        found.append(f"across: {across.format()}")
    return found


def _read(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ByocError(f"{truncate(str(path))} can't be read") from error
