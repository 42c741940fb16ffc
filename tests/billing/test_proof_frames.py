"""An invoice proved from the frames that its collectors kept; whatever is changed is found and its place named."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from billing.proof.columns import Columns
from billing.proof.compared import Compared
from billing.proof.evidence import (
    BATCHES,
    EVIDENCE,
    FILES,
    KEYS,
    Evidence,
)
from billing.proof.metered import stated_meters
from billing.proof.recompute import recompute
from billing.proof.rows import INVOICE
from collector.spool.frame import Frame, encode_frame
from collector.spool.segment import list_segments, scan
from console.commands import register
from console.wiring import Vendor
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from kernel.window import HOUR_MS, Window
from metering.usage.rows import UsageRow
from metering.usage.store import UsageStore
from tests.billing.billed_world import METERS, Billed
from tests.billing.proof_world import flip, given, lane, refusal, sign_again
from tests.identity.world import ACME

BOTH = ("spool-a", "spool-b")
NO_CHECKPOINT = "checkpoint: that one holds it: none was made since it was issued"


def test_every_row_follows_from_the_kept_frames(original: Billed) -> None:
    verified = original.verify(*BOTH)
    assert verified.unproved == (NO_CHECKPOINT,)
    assert any("hours: 158 of 158 rows recomputed" in text for text in verified.proved)
    metered = [text for text in verified.proved if text.startswith("meters: ")]
    assert len(metered) == len(METERS)
    for text in metered:  # all of its rows, and there are some
        found = re.search(r": (\d+) of (\d+) rows of meters", text)
        assert found is not None
        assert found[1] == found[2] > "0"
    rows = given(original).usage.rows
    assert {row.missing_ms for row in rows} > {0, 3_600_000}  # of an hour of silence too
    assert any("compacted-" in source for row in rows for source in row.sources)


def test_a_period_that_begins_and_ends_inside_hours_is_proved_too(original: Billed) -> None:
    """As a month of Asia/Kolkata does: the rows at its edges are of half an hour."""
    base = given(original)
    period = Window(original.period.start_ms + HOUR_MS // 2, original.period.end_ms - HOUR_MS // 2)
    vendor = Vendor.embedded(original.folder, SystemClock())
    usage = UsageStore(vendor.database()).month(base.usage.organization, period)
    assert {row.hour.length_ms for row in usage.rows} == {HOUR_MS, HOUR_MS // 2}
    proved, unproved = recompute(replace(base, usage=usage), [lane(original, name) for name in BOTH])
    assert f"hours: {len(usage.rows)} of {len(usage.rows)} rows recomputed" in "\n".join(proved)
    assert unproved == []


def test_a_collector_whose_spool_is_not_given_is_not_proved(original: Billed) -> None:
    verified = original.verify("spool-b")
    assert any("hours: 79 of 158 rows" in text for text in verified.proved)
    assert [text for text in verified.unproved if "collector-a" in text and "not given" in text]
    assert [text for text in verified.unproved if text.startswith("hours: 79 rows of project prod")]
    assert "frames are not compared (--spool)" in original.verify().unproved[1]
    assert "one spool for each collector" in refusal(original, "spool-a", "spool-a")


def test_the_command_says_what_is_proved(original: Billed, tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    (tmp_path / "ca.pem").write_bytes(original.authority_pem)
    words = ["verify-invoice", str(original.bundle), "--ca", str(tmp_path / "ca.pem")]
    words += [word for name in BOTH for word in ("--spool", str(original.folder / name))]
    said = CliRunner().invoke(app, [*words, "--lake", str(original.folder / "warehouse/byoc/samples/data")])
    assert said.exit_code == 0, said.output
    assert "5 of 5 files of the rows have their sha256" in said.output
    assert [line.split()[2] for line in said.output.splitlines() if "NOT PROVED" in line] == ["checkpoint"]
    assert said.output.splitlines()[-1].endswith("000002 verified")
    strict = CliRunner().invoke(app, [*words, "--json", "--strict"])
    assert strict.exit_code == 3
    told = json.loads(strict.output)
    assert told["result"] == "verified"
    assert [one["subject"] for one in told["unproved"]] == ["checkpoint"]
    nowhere = CliRunner().invoke(app, [*words, "--json", "--lake", str(tmp_path / "nowhere")])
    assert json.loads(nowhere.output)["findings"][0]["file"] == "--lake"
    (tmp_path / "ca.pem").write_text("a token, not a certificate")
    other = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(other.output)["findings"][0]["file"] == "--ca"
    assert other.exit_code == 2
    (tmp_path / "ca.pem").unlink()
    wrong = CliRunner().invoke(app, [*words, "--json"])
    assert wrong.exit_code == 2
    assert json.loads(wrong.output)["findings"][0]["file"] == "--ca"


@pytest.mark.parametrize("name", [FILES, BATCHES, KEYS, EVIDENCE])
def test_a_byte_of_the_evidence_is_found_and_its_file_named(billed: Billed, name: str) -> None:
    path = billed.bundle / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 25)):
        flip(path, place)
        assert f"/{name}: " in refusal(billed)
        path.write_bytes(content)


def test_a_byte_of_a_file_of_the_lake_is_found_and_the_file_named(original: Billed, tmp_path: Path) -> None:
    lake = tmp_path / "data"
    shutil.copytree(original.folder / "warehouse/byoc/samples/data", lake)
    name = given(original).evidence.files[1].name
    flip(lake / name, 1000)
    assert f"{lake / name}: sha256" in refusal(original, lake=lake)


def test_a_file_of_the_lake_that_is_not_there_is_not_proved(original: Billed, tmp_path: Path) -> None:
    verified = original.verify(lake=tmp_path)
    assert not [text for text in verified.proved if text.startswith("files")]
    assert verified.unproved[1] == f"files: 5 of 5 files of the rows do not lie in {tmp_path} (--lake)"


def test_a_byte_of_a_frame_is_found_and_its_place_named(billed: Billed) -> None:
    path = min((billed.folder / "spool-a" / "billing").rglob("*.seg"))
    for place in (40, path.stat().st_size // 2):
        flip(path, place)
        assert f"damaged at {path}: byte " in refusal(billed, *BOTH)
        flip(path, place)
    path.unlink()
    said = refusal(billed, *BOTH)
    assert "batches.tsv: line 1: " in said
    assert " number 1, whose body is not in the spool" in said


def test_a_frame_that_was_made_anew_is_not_the_one_that_was_sent(billed: Billed) -> None:
    path = min((billed.folder / "spool-b" / "billing").rglob("*.seg"))
    (name,) = [one for one in list_segments(path.parent) if str(one) == path.name]
    frames = [one for one in scan(path, name, path.stat().st_size) if isinstance(one, Frame)]
    payload = bytearray(frames[1].payload)
    payload[-1] ^= 1
    changed = [frames[0], replace(frames[1], payload=bytes(payload)), *frames[2:]]
    path.write_bytes(b"".join(encode_frame(one, name.salt) for one in changed))
    said = refusal(billed, *BOTH)
    assert f"{path}: byte {frames[0].stored_bytes}: body: found epoch {name.epoch} number 2 with sha256" in said


def test_a_byte_of_a_receipt_is_found_and_its_place_named(billed: Billed) -> None:
    (path,) = (billed.folder / "spool-a" / "billing" / "receipts").glob("*.rcp")
    flip(path, -20)
    assert f"{path}: byte " in refusal(billed, *BOTH)


@pytest.mark.parametrize("field", ["milli_vcpu_ms", "observed_ms", "missing_ms", "peak_milli_vcpu"])
def test_a_signed_row_that_the_frames_do_not_give_is_found(original: Billed, field: str) -> None:
    def raised(rows: tuple[UsageRow, ...]) -> tuple[UsageRow, ...]:
        return (*rows[:40], replace(rows[40], **{field: getattr(rows[40], field) + 1}), *rows[41:])

    spools = [lane(original, name) for name in BOTH]
    with pytest.raises(InvalidInput, match=r"rows\.tsv: line 41: found .* by the kept frames"):
        recompute(given(original, raised), spools)


@pytest.mark.parametrize("number", range(1, len(METERS) + 1))
def test_a_signed_row_of_a_meter_that_the_frames_do_not_give_is_found(original: Billed, number: int) -> None:
    document = json.loads((original.bundle / INVOICE).read_bytes())
    meters = list(stated_meters(original.bundle, document["usage"], ACME.organization))
    stated = meters[number - 1]
    kind = {"unique-count": "values", "gauge-integral": "quarters", "counter-increase": "quarters"}
    name = kind.get(stated.meter.kind, "points")
    at = next(at for at, row in enumerate(stated.rows) if f'"{name}"' in row.figures and at > 20)
    figures = json.loads(stated.rows[at].figures)
    if name == "values":
        figures[name] = {f"{user}!": bits for user, bits in figures[name].items()}
    elif name == "points":
        figures[name][0][1] += 1
    else:
        figures[name][0][0] += 1
    changed = stated.rows[at]._replace(figures=json.dumps(figures, separators=(",", ":"), sort_keys=True))
    meters[number - 1] = replace(stated, rows=(*stated.rows[:at], changed, *stated.rows[at + 1 :]))
    spools = [lane(original, name) for name in BOTH]
    with pytest.raises(InvalidInput, match=rf"meters/{number}\.tsv: row {at + 1}: found .* by the kept frames"):
        recompute(replace(given(original), meters=tuple(meters)), spools)
    meters[number - 1] = replace(stated, rows=stated.rows[1:])
    with pytest.raises(InvalidInput, match=rf"meters/{number}\.tsv: c[12] .*: found no row"):
        recompute(replace(given(original), meters=tuple(meters)), [lane(original, name) for name in BOTH])


def test_a_signed_row_too_many_or_twice_or_left_out_is_found(original: Billed) -> None:
    spools = [lane(original, name) for name in BOTH]
    with pytest.raises(InvalidInput, match=r"rows\.tsv: c1 index, hour of .*: found no row"):
        recompute(given(original, lambda rows: rows[1:]), spools)
    with pytest.raises(InvalidInput, match=r"rows\.tsv: line 159: found a component and hour twice"):
        recompute(given(original, lambda rows: (*rows, replace(rows[0], revision=2))), spools)
    later = replace(given(original).usage.rows[-1], component="milvus")
    with pytest.raises(InvalidInput, match=r"rows\.tsv: line 159: .* rows of what the kept frames hold"):
        recompute(given(original, lambda rows: (*rows, later)), spools)


def test_a_signed_push_that_is_foreign_or_another_is_found(original: Billed, billed: Billed) -> None:
    def numbered(evidence: Evidence) -> Evidence:
        return replace(evidence, batches=(evidence.batches[0]._replace(number=77), *evidence.batches[1:]))

    sign_again(original, billed, numbered)
    said = refusal(billed, *BOTH)
    assert "batches.tsv: line 1: found billing epoch " in said
    assert " number 77, a foreign push" in said

    def other(evidence: Evidence) -> Evidence:
        changed = evidence.batches[0]._replace(number=1, sha256="0" * 64)
        return replace(evidence, batches=(changed, *evidence.batches[1:]))

    sign_again(original, billed, other)
    assert "batches.tsv: line 1: found billing epoch " in refusal(billed, *BOTH)


def test_a_push_that_is_left_out_is_found_and_its_frame_named(original: Billed, billed: Billed) -> None:
    sign_again(original, billed, lambda evidence: replace(evidence, batches=evidence.batches[:-1]))
    said = refusal(billed, *BOTH)
    assert f"{billed.folder}/spool-b/billing/" in said
    assert " number 8, which the vendor received and the invoice leaves out" in said


def test_a_push_that_came_after_the_invoice_is_told_and_no_lie(billed: Billed) -> None:
    known = given(billed)
    late = replace(known, issued_ms=0, evidence=replace(known.evidence, batches=known.evidence.batches[:-1]))
    compared = Compared(late, lane(billed, "spool-b"), ("prod", "collector-b"))
    compared.run(Columns(), Columns())
    assert compared.left_out == [
        "batches: 1 frames of collector collector-b of project prod came after the invoice was issued"
    ]
    shutil.rmtree(billed.folder / "spool-b" / "billing" / "receipts")
    with pytest.raises(InvalidInput, match="a collector's spool folder"):
        lane(billed, "spool-b").owner()


def test_a_batch_outside_the_files_of_the_rows_is_found(original: Billed, billed: Billed) -> None:
    def moved(evidence: Evidence) -> Evidence:
        return replace(evidence, batches=(*evidence.batches, evidence.batches[-1]._replace(offset=10**6)))

    sign_again(original, billed, moved)
    assert f"batches.tsv: line 17: found byoc.samples/0 offset {10**6}" in refusal(billed)


def test_a_file_of_the_rows_that_is_left_out_is_found(original: Billed, billed: Billed) -> None:
    sign_again(original, billed, lambda evidence: replace(evidence, files=evidence.files[:-1]))
    assert "files.tsv: files: found no such file" in refusal(billed)
