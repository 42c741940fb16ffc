"""A contract's gap policy on its invoice: flagged, verified, and replaced by data that arrives later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from billing.contract import parse_contract
from billing.gaps import render_gaps, with_gaps
from billing.proof.rows import INVOICE, parse_rows, render_rows
from billing.proof.verify import verify_bundle
from billing.words import phrase
from kernel.errors import InvalidInput
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.report import monthly_report
from metering.usage.rows import UsageGap
from metering.usage.store import UsageStore
from tests.billing.deals import ACME, contract_text
from tests.billing.test_cli import FIRST, TERM
from tests.billing.test_proof import NUMBER, Closed
from tests.usage.months import nothing_seen, seen, seen_at, to_seal
from tests.usage.test_filling import usage_of

HALF = HOUR_MS // 2


class Office(Closed):
    """Two days at 20 vCPU, 4 above the commitment; from 10:00 half an hour of data, then none for three hours."""

    def __init__(self, folder: Path, policy: str) -> None:
        super(Closed, self).__init__(folder)
        self.make_authority()
        self.say("contract", "add", self.file("contract.yaml", contract_text(term=TERM, more=policy)))
        self.bundle = folder / "bundle"
        self.seal({10: HALF, 11: 0, 12: 0, 13: 0}, upto=48)
        self.say("invoice", "finalize", "acme", "2026-10")

    def seal(self, observed: Mapping[int, int], upto: int, vcpu: int = 20, start: int = 0) -> None:
        hours = list(hours_in(Window(FIRST.start_ms, month("2026-10").end_ms)))[start:upto]
        found = []
        for number, hour in enumerate(hours, start):
            until = observed.get(number, HOUR_MS)
            part = seen(hour, vcpu * 1000, until_ms=until) if until else nothing_seen(hour)
            found.append(to_seal(hour, part, files=str(vcpu)[0]))
        UsageStore(self.deployment.database()).seal(found, self.deployment.clock.now_ms())

    def overage(self, number: str = NUMBER) -> dict[str, Any]:
        document = json.loads(self.say("invoice", "show", number))
        found: dict[str, Any] = next(line for line in document["lines"] if line["kind"].endswith("overage"))
        return found


@pytest.mark.parametrize(
    ("policy", "billed_hours", "estimated"),
    [("", 44.5, None), ("gap_policy: hold-last\n", 48, 3.5), ("gap_policy: hold-last\ngap_hours: 2\n", 46.5, 2)],
)
def test_the_line_bills_says_and_proves_what_its_policy_fills(
    tmp_path: Path, policy: str, billed_hours: float, estimated: float | None
) -> None:
    office = Office(tmp_path, policy)
    line = office.overage()
    assert line["derivation"]["quantity"]["exact"] == f"{billed_hours * 4 * 60:.0f}"
    facts = {fact["name"]: fact["value"] for fact in line["derivation"]["facts"]}
    [note] = line["notes"]
    if estimated is None:
        assert "estimated_ms" not in facts
        assert "this time is not billed" in note
    else:
        assert facts["estimated_ms"] == f"{estimated * HOUR_MS:.0f}"
        assert facts["estimated_milli_vcpu_ms"] == f"{estimated * HOUR_MS * 20_000:.0f}"
        assert f"{estimated:.2f} component-hours of it are estimated, with {estimated * 20:.3f} vCPU-hours" in note
        assert "估算" in phrase(note)
    office.say("invoice", "bundle", NUMBER, "--out", str(office.bundle))
    verified = verify_bundle(office.bundle, office.authority.certificate_pem)
    assert "amounts: 2 of 2 lines recomputed from rows and contract" in verified.proved


def test_a_level_in_a_gap_that_was_changed_is_found_by_recomputing(tmp_path: Path) -> None:
    office = Office(tmp_path, "gap_policy: hold-last\n")
    office.say("invoice", "bundle", NUMBER, "--out", str(office.bundle))
    usage = json.loads((office.bundle / INVOICE).read_text())["usage"]
    usage["gaps"][0]["milli_vcpu"] = "90000"
    office.resign({"usage": usage})
    assert "lines" in office.refusal()
    usage["gaps"][0]["end_ms"] = str(int(usage["gaps"][0]["end_ms"]) - 1)
    office.resign({"usage": usage})
    assert "usage.gaps" in office.refusal()


def test_late_data_replaces_what_was_estimated(tmp_path: Path) -> None:
    """3.5 hours were estimated at 20 vCPU; they arrive, three of them at 17: 540 vCPU-minutes are given back."""
    office = Office(tmp_path, "gap_policy: estimate\n")
    assert office.overage()["derivation"]["quantity"]["exact"] == str(48 * 4 * 60)
    office.seal({}, 14, vcpu=17, start=11)
    office.seal({}, 11, start=10)
    said = office.say("invoice", "finalize", "acme", "2026-10")
    [credit] = [line.split()[0] for line in said.splitlines() if "credit-note for" in line]
    line = office.overage(credit)
    assert line["kind"] == "correction:overage"
    assert line["amount"] == "-0.93", "540 x 3/1752 is 0.924: of 19.73 before, 18.80 now"
    facts = {fact["name"]: fact["value"] for fact in line["derivation"]["facts"]}
    assert facts["estimated_ms"] == "0"
    assert not [note for note in line["notes"] if "missing" in note]


def test_gaps_are_stated_once_and_read_back_by_hours() -> None:
    usage = usage_of({"query": [4000, None, None, None, 2000, None], "index": [None] * 6}, 3000)
    stated = render_gaps(usage.rows)
    assert len(stated) == 3
    bare = parse_rows(render_rows(usage.rows), "rows.tsv")
    assert {row: row.gaps for row in with_gaps(bare, stated, "f")} == {row: row.gaps for row in usage.rows}
    with pytest.raises(InvalidInput, match=r"usage\.gaps"):
        with_gaps(bare, [{**stated[0], "end_ms": str(int(stated[0]["end_ms"] or 0) - 1)}], "f")
    assert isinstance(usage.rows[1].gaps[0], UsageGap)


@pytest.mark.parametrize(
    ("more", "where", "allowed"),
    [
        ("gap_policy: guess", "gap_policy", "hold-last"),
        ("gap_hours: 0", "gap_hours", "1"),
        ("gap_hours: 745", "gap_hours", "744"),
        ("gap_hours: 1.5", "gap_hours", "a whole number"),
    ],
)
def test_refused(more: str, where: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_contract(contract_text(more=f"{more}\n"), "c.yaml")
    assert where in str(caught.value)
    assert allowed in str(caught.value)


class Kolkata(Office):
    """The last two days of October there: from 18:30 UTC of the 29th to 18:30 of the 31st, at 17 vCPU.

    18:00 to 18:30 of both edges is at 40: it belongs to what is before and after.
    """

    def __init__(self, folder: Path) -> None:
        super(Closed, self).__init__(folder)
        self.make_authority()
        self.bundle = folder / "bundle"
        more = "time_zone: Asia/Kolkata\n"
        self.say("contract", "add", self.file("contract.yaml", contract_text(term=TERM, more=more)))
        end = month("2026-10", "Asia/Kolkata").end_ms
        span = Window(end - 2 * 24 * HOUR_MS - HALF, end + HALF)
        sealed = []
        for number, hour in enumerate(hours_in(span)):
            is_edge = number in {0, 48}
            levels = ((40_000, 17_000) if number == 0 else (17_000, 40_000)) if is_edge else (17_000, 17_000)
            middle = hour.start_ms + HALF
            held = [(hour.start_ms, middle, levels[0]), (middle, hour.end_ms, levels[1])]
            part = seen_at(hour, held) if is_edge else seen(hour, 17_000)
            sealed.append(to_seal(hour, part))
        UsageStore(self.deployment.database()).seal(sealed, self.deployment.clock.now_ms())


def test_a_month_that_begins_inside_a_utc_hour_is_billed_and_verified(tmp_path: Path) -> None:
    office = Kolkata(tmp_path)
    office.say("invoice", "finalize", "acme", "2026-10")
    assert office.overage()["derivation"]["quantity"]["exact"] == str(48 * 60)
    office.say("invoice", "bundle", NUMBER, "--out", str(office.bundle))
    verified = verify_bundle(office.bundle, office.authority.certificate_pem)
    assert "amounts: 2 of 2 lines recomputed from rows and contract" in verified.proved


def test_its_monthly_report_agrees_with_its_rows(tmp_path: Path) -> None:
    office, window = Kolkata(tmp_path), month("2026-10", "Asia/Kolkata")
    usage = UsageStore(office.deployment.database()).month(ACME, window)
    report = monthly_report(usage, None, "2026-10", "Asia/Kolkata")
    assert report.milli_vcpu_ms == 17_000 * 48 * HOUR_MS + 40_000 * HALF, "23:30 to midnight of the 29th"
    assert [day.milli_vcpu_ms for day in report.days][-2:] == [17_000 * 24 * HOUR_MS] * 2
    last = usage.rows[-1]
    assert last.hour == Window(window.end_ms - HALF, window.end_ms)
    assert (last.peak_milli_vcpu, last.observed_ms) == (17_000, HALF)
