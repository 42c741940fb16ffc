"""A line is explained by the hours that it was rated from, and those by files, rows and pushes."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

import pytest

from billing.proof.evidence import BATCHES, FILES
from billing.proof.rows import INVOICE
from console.wiring import Vendor
from kernel.clock import VirtualClock, from_ms
from kernel.window import DAY_MS
from tests.billing.billed_world import METERS, Billed, say

ROW = re.compile(r"^hour .* (?P<meter>\S+): (?P<quantity>\d+)(?P<rest>.*)$")
PLACES = re.compile(r"  rows( [0-9a-f]{12}:\d+:\d+-\d+(/\d+)?)+$")


def vendor_of(billed: Billed) -> Vendor:
    vendor = Vendor.embedded(billed.folder, VirtualClock(from_ms(billed.period.end_ms + 90 * DAY_MS)))
    assert isinstance(vendor, Vendor)
    return vendor


def explained(billed: Billed, kind: str) -> tuple[dict[str, Any], list[str]]:
    """The first line of that kind, and what is said of it."""
    document = json.loads((billed.folder / "bundle" / INVOICE).read_text())
    position, line = next((at, one) for at, one in enumerate(document["lines"], 1) if one["kind"] == kind)
    return line, say(
        vendor_of(billed), "invoice", "explain", document["number"], "--line", str(position)
    ).splitlines()


def numbers(text: str) -> set[int]:
    """Of `1-40, 42`."""
    found: set[int] = set()
    for each in text.split(", "):
        first, _, last = each.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_a_line_of_the_licence_names_its_hours_gaps_files_and_pushes(original: Billed) -> None:
    line, said = explained(original, "overage")
    assert said[0] == f"{line['amount']} USD  overage  {line['description']}"
    hours = [text for text in said if text.startswith("hour ")]
    assert len(hours) == 158
    assert all("milli-vCPU-ms, peak " in text for text in hours)
    silent = [text for text in hours if "3600000 ms not observed" in text]
    assert silent
    assert all(PLACES.search(text) or "not observed" in text for text in hours)
    assert sum(PLACES.search(text) is not None for text in hours) > 100
    gaps = [text for text in said if text.startswith("gap ")]
    assert len(gaps) >= len(silent)

    files = {text.split()[1] for text in said if text.startswith("file ")}
    stated = (original.folder / "bundle" / FILES).read_text().splitlines()
    assert files == {text.split("\t")[0] for text in stated}
    named: dict[tuple[str, str], set[int]] = {}
    for text in said:
        if found := re.fullmatch(r"push  prod/(\S+) billing epoch (\d+): (.*)", text):
            named.setdefault((found[1], found[2]), set()).update(numbers(found[3]))
    expected: dict[tuple[str, str], set[int]] = {}
    for text in (original.folder / "bundle" / BATCHES).read_text().splitlines():
        fields = text.split("\t")
        expected.setdefault((fields[5], fields[7]), set()).add(int(fields[8]))
    assert named == expected


@pytest.mark.parametrize("meter", METERS)
def test_a_line_of_a_charge_names_the_hours_of_its_meter_and_no_others(original: Billed, meter: str) -> None:
    line, said = explained(original, f"charge:{meter}")
    rows = [ROW.match(text) for text in said if text.startswith("hour ")]
    assert rows
    assert {row["meter"] for row in rows if row} == {meter}
    assert all(row is not None and (PLACES.search(row["rest"]) or "not observed" in row["rest"]) for row in rows)
    if meter == "searches":
        counted = sum(int(row["quantity"]) for row in rows if row)
        assert Fraction(line["derivation"]["quantity"]["exact"]) == counted > 0
        assert any(" user=" in text for text in said)
    assert any(text.startswith("push ") for text in said)


def test_a_correction_names_the_hours_that_it_was_rated_from_again(original_corrected: Billed) -> None:
    line, said = explained(original_corrected, "correction:charge:rows-hours")
    assert any(text.startswith("part  billed before") for text in said)
    hours = [text for text in said if text.startswith("hour ")]
    assert hours
    assert {text.split()[1][:7] for text in hours} == {line["period"]["start"][:7]}
    assert {" revision 1 " in text for text in hours} == {True, False}, "late hours were revised, others were not"


def test_a_true_up_names_the_hours_of_its_periods(original_corrected: Billed) -> None:
    line, said = explained(original_corrected, "capacity-true-up")
    starts = {text.split()[1] for text in said if text.startswith("hour ")}
    assert starts
    assert min(starts) >= line["period"]["start"]


def test_a_line_without_usage_names_no_hours(original: Billed) -> None:
    """The first invoice is the commitment's."""
    said = say(vendor_of(original), "invoice", "explain", f"{_number(original)[:-1]}1").splitlines()
    assert " commitment " in said[0]
    assert not [text for text in said if text.startswith(("hour ", "gap ", "file ", "push "))]


def _number(billed: Billed) -> str:
    number: str = json.loads((billed.folder / "bundle" / INVOICE).read_text())["number"]
    assert number.endswith("000002")
    return number
