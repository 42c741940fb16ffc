"""What corrects an earlier month, and what a true-up rests on, is proved from the frames of that time too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from billing.proof import sections
from billing.proof.checkpoint import CHECKPOINTS
from billing.proof.compared import Given
from billing.proof.evidence import BATCHES, EVIDENCE, FILES, KEYS, Evidence, load_evidence, render_evidence
from billing.proof.held import given_of, load_section, load_sections
from billing.proof.loading import Bundle
from billing.proof.metered import stated_meters
from billing.proof.recompute import recompute
from billing.proof.rows import CAPACITY, CORRECTED, INVOICE, METERS, NOW, ROWS, STEPS
from billing.proof.sections import Section, pieces_of
from billing.proof.signatures import open_signer
from collector.spool.frame import Frame, encode_frame
from collector.spool.segment import list_segments, scan
from console.commands import register
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from kernel.window import DAY_MS, HOUR_MS, QUARTER_MS, Window, hours_in
from metering.usage.rows import UsageRow, UsageRows
from tests.billing.billed_world import Billed
from tests.billing.corrected_world import HELD_BACK, PART_MS
from tests.billing.proof_world import flip, lane, refusal, reissue

pytestmark = pytest.mark.slow  # each world takes seconds to make, and is read again by each test

BOTH = ("spool-a", "spool-b")
Rows = tuple[UsageRow, ...]


@pytest.fixture(autouse=True)
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A true-up of three days is held in two parts, as one of a year is in twelve."""
    monkeypatch.setattr(sections, "MOST_MS", PART_MS)


def now_of(billed: Billed) -> Path:
    """What the earlier month was rated again from."""
    [folder] = (billed.bundle / CORRECTED).glob(f"*/{NOW}")
    return folder


def late_segment(billed: Billed) -> Path:
    """Of what collector a had held back."""
    return max((billed.folder / "spool-a" / "billing").rglob("*.seg"), key=lambda path: path.name)


def part(billed: Billed, place: str, change: Callable[[Rows], Rows] = lambda rows: rows) -> Given:
    """A part of the document as a verifier holds it, with rows as a vendor might have signed them."""
    encoded = (billed.bundle / INVOICE).read_bytes()
    bundle = Bundle(billed.bundle, json.loads(encoded), encoded, billed.authority_pem, is_within=False)
    section = next(one for one in load_sections(bundle) if one.place == place)
    usage, folder = load_section(bundle, section), billed.bundle / section.folder
    meters = stated_meters(folder, section.stated, usage.organization)
    evidence = load_evidence(
        billed.bundle, encoded, _sourced(tuple(usage.rows), section, meters), billed.authority_pem, section.evidence
    )
    assert evidence is not None
    return given_of(
        bundle,
        section,
        replace(usage, rows=UsageRows.of(usage.organization, change(tuple(usage.rows)))),
        evidence,
        meters,
    )


def _sourced(rows: Rows, section: Section, meters: Any) -> list[Any]:
    inside = [row for row in rows if row.hour.intersection(section.window)]
    return [*inside, *(row for one in meters for _, row in one.inside())]


def sign_part(original: Billed, billed: Billed, folder: str, change: Callable[[Evidence], Evidence]) -> None:
    """As a vendor that lies about the evidence of a part would."""
    encoded = (billed.bundle / INVOICE).read_bytes()
    signer = open_signer(original.folder / "authority", SystemClock())
    assert signer is not None
    evidence = part(billed, "corrections[1]").evidence
    for name, content in render_evidence(change(evidence), encoded, signer, folder).items():
        (billed.bundle / name).write_bytes(content)


@pytest.mark.parametrize("world", ["original_corrected", "original_credited"])
def test_an_honest_correction_is_proved_whole(world: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    billed: Billed = request.getfixturevalue(world)
    app = typer.Typer()
    register(app)
    (tmp_path / "ca.pem").write_bytes(billed.authority_pem)
    words = ["verify-invoice", str(billed.bundle), "--ca", str(tmp_path / "ca.pem"), "--strict"]
    words += ["--lake", str(billed.folder / "warehouse/byoc/samples/data")]
    words += [word for name in BOTH for word in ("--spool", str(billed.folder / name))]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    changed = "2 of 2 rows that are not as billed follow from the frames, by +189210000000 milli-vCPU-ms"
    assert changed in said.output  # two hours of 16 and 26.5 vCPU... as scraped
    assert "158 of 158 rows recomputed" in said.output
    metered = [line for line in said.output.splitlines() if " meters " in line]
    assert len(metered) == (12 if world == "original_corrected" else 6)
    without = CliRunner().invoke(app, words[:5])
    assert without.exit_code == 3
    assert "frames are not compared (--spool)" in without.output


def test_what_is_proved_says_of_which_part_it_is(original_corrected: Billed) -> None:
    verified = original_corrected.verify(*BOTH)
    assert verified.unproved == ()
    document = json.loads((original_corrected.bundle / INVOICE).read_bytes())
    number = document["corrections"][0]["number"]
    assert any(text.startswith(f"hours: of {number} as corrected: 158 of 158 rows") for text in verified.proved)
    assert any(text.startswith("hours: of the true-up, ") and "158 of 158" in text for text in verified.proved)
    late = (row for row in part(original_corrected, "corrections[1]").usage.rows if row.revision > 1)
    hours = {(row.hour.start_ms - original_corrected.period.start_ms) // HOUR_MS for row in late}
    assert hours == HELD_BACK
    alone = original_corrected.verify("spool-b")
    assert [text for text in alone.unproved if "as corrected" in text and "its spool was not given" in text]


@pytest.mark.parametrize("name", [ROWS, STEPS, FILES, BATCHES, KEYS, EVIDENCE, f"{METERS}/6.tsv"])
def test_a_byte_of_a_corrected_month_is_found_and_its_file_named(corrected: Billed, name: str) -> None:
    path = now_of(corrected) / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 5)):
        flip(path, place)
        said = refusal(corrected)
        assert f"{NOW}/{name}: " in said or (name == STEPS and "signature.json: statement.files" in said), said
        path.write_bytes(content)


@pytest.mark.parametrize("name", [ROWS, STEPS, f"1/{FILES}", f"1/{BATCHES}", f"2/{KEYS}", f"2/{EVIDENCE}"])
def test_a_byte_of_a_true_up_is_found_and_its_file_named(corrected: Billed, name: str) -> None:
    path = corrected.bundle / CAPACITY / "1" / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 5)):
        flip(path, place)
        assert f"{CAPACITY}/1/{name}: " in refusal(corrected)
        path.write_bytes(content)


def test_a_byte_of_a_late_frame_is_found_and_its_place_named(corrected: Billed) -> None:
    path = late_segment(corrected)
    flip(path, path.stat().st_size // 2)
    said = refusal(corrected, *BOTH)
    assert f"damaged at {path}: byte " in said


def test_a_late_frame_that_was_made_anew_is_not_the_one_that_was_sent(corrected: Billed) -> None:
    path = late_segment(corrected)
    (name,) = [one for one in list_segments(path.parent) if str(one) == path.name]
    frames = [one for one in scan(path, name, path.stat().st_size) if isinstance(one, Frame)]
    payload = bytearray(frames[-1].payload)
    payload[-1] ^= 1
    changed = [*frames[:-1], replace(frames[-1], payload=bytes(payload))]
    path.write_bytes(b"".join(encode_frame(one, name.salt) for one in changed))
    said = refusal(corrected, *BOTH)
    assert f"{path}: byte " in said
    assert f"number {frames[-1].sequence} with sha256" in said


@pytest.mark.parametrize("place", ["corrections[1]", "usage.capacity[1]"])
@pytest.mark.parametrize("field", ["milli_vcpu_ms", "observed_ms", "missing_ms", "peak_milli_vcpu"])
def test_a_signed_row_that_the_frames_do_not_give_is_found(
    original_corrected: Billed, place: str, field: str
) -> None:
    at = next(at for at, row in enumerate(part(original_corrected, place).usage.rows) if row.revision > 1)

    def raised(rows: Rows) -> Rows:
        return (*rows[:at], replace(rows[at], **{field: getattr(rows[at], field) + 1}), *rows[at + 1 :])

    spools = [lane(original_corrected, name) for name in BOTH]
    with pytest.raises(InvalidInput, match=rf"rows\.tsv: line {at + 1}: found .* by the kept frames") as caught:
        recompute(part(original_corrected, place, raised), spools)
    folder = now_of(original_corrected) if place == "corrections[1]" else original_corrected.bundle / CAPACITY / "1"
    assert f"{folder}/rows.tsv" in str(caught.value)


@pytest.mark.parametrize("place", ["corrections[1]", "usage.capacity[1]"])
def test_a_signed_row_too_many_or_left_out_is_found(original_corrected: Billed, place: str) -> None:
    spools = [lane(original_corrected, name) for name in BOTH]
    with pytest.raises(InvalidInput, match=r"rows\.tsv: c1 index, hour of .*: found no row"):
        recompute(part(original_corrected, place, lambda rows: rows[1:]), spools)

    def with_another(rows: Rows) -> Rows:
        last = max((row for row in rows if row.hour in hours), key=lambda row: row.hour)
        return (*rows, replace(last, component="milvus"))

    hours = list(hours_in(part(original_corrected, place).window))
    with pytest.raises(InvalidInput, match=r"rows\.tsv: line [0-9]+: .* rows of what the kept frames hold"):
        recompute(part(original_corrected, place, with_another), spools)


def test_a_signed_row_of_a_meter_of_a_corrected_month_is_found(original_corrected: Billed) -> None:
    given = part(original_corrected, "corrections[1]")
    stated = given.meters[0]
    at = next(at for at, row in enumerate(stated.rows) if row.revision > 1)
    figures = json.loads(stated.rows[at].figures)
    figures["quarters"][0][0] += 1
    changed = stated.rows[at]._replace(figures=json.dumps(figures, separators=(",", ":"), sort_keys=True))
    meters = (replace(stated, rows=(*stated.rows[:at], changed, *stated.rows[at + 1 :])), *given.meters[1:])
    spools = [lane(original_corrected, name) for name in BOTH]
    with pytest.raises(InvalidInput, match=rf"{NOW}/meters/1\.tsv: row {at + 1}: found .* by the kept frames"):
        recompute(replace(given, meters=meters), spools)


def test_a_late_push_that_is_left_out_is_found_and_its_frame_named(
    original_corrected: Billed, corrected: Billed
) -> None:
    folder = str(now_of(corrected).relative_to(corrected.bundle))

    def without_one(evidence: Evidence) -> Evidence:
        mine = [one for one in evidence.batches if one.collector == "collector-a"]
        return replace(evidence, batches=tuple(one for one in evidence.batches if one != mine[-2]))

    sign_part(original_corrected, corrected, folder, without_one)
    said = refusal(corrected, *BOTH)
    assert f"{late_segment(corrected)}: byte " in said
    assert "which the vendor received and the invoice leaves out" in said


def test_evidence_of_one_part_does_not_pass_for_that_of_another(corrected: Billed) -> None:
    for name in (FILES, BATCHES, KEYS, EVIDENCE):
        shutil.copy(now_of(corrected) / name, corrected.bundle / CAPACITY / "1" / "1" / name)
    assert f"{CAPACITY}/1/1/{EVIDENCE}: statement.of: found 'corrects/" in refusal(corrected)


def test_a_part_without_evidence_is_not_proved(corrected: Billed) -> None:
    (now_of(corrected) / EVIDENCE).unlink()
    [left] = corrected.verify(*BOTH).unproved
    assert left.startswith("hours: of EXAMPLE-EU-")
    assert left.endswith("the bundle does not say which pushes its rows were made from")


def test_another_price_of_a_correction_is_found(original_corrected: Billed, corrected: Billed) -> None:
    document = json.loads((corrected.bundle / INVOICE).read_bytes())
    at, line = next((at, one) for at, one in enumerate(document["lines"]) if one.get("corrects"))
    line["amount"] = str(Decimal(line["amount"]) + Decimal("0.01"))
    line["derivation"]["unrounded"]["exact"] = line["amount"]
    for name in ("net", "gross"):
        document["totals"][name] = str(Decimal(document["totals"][name]) + Decimal("0.01"))
    (corrected.bundle / CHECKPOINTS).unlink()
    reissue(original_corrected, corrected, document)
    assert f"lines[{at + 1}]" in refusal(corrected, *BOTH)


def test_a_long_period_is_held_in_parts_of_whole_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    start_ms = 1_790_811_000_000  # half past an hour, as a month of Asia/Kolkata begins
    assert start_ms % HOUR_MS == 2 * QUARTER_MS
    year = Window(start_ms, start_ms + 365 * DAY_MS)
    found = list(pieces_of(year))
    assert [found[0].start_ms, found[-1].end_ms] == [year.start_ms, year.end_ms]
    assert all(one.end_ms == other.start_ms and one.end_ms % HOUR_MS == 0 for one, other in pairwise(found))
    assert max(one.length_ms for one in found) <= 31 * DAY_MS
    assert len(found) == 12
