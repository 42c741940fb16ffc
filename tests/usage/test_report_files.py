"""The report as files: byte-identical, exact, and read back by other programs than the ones that wrote them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from kernel.errors import Conflict, InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import Window
from metering.usage.model import UsageMonth
from metering.usage.reconciliation import ClusterHour, Difference, Reconciliation
from metering.usage.report import MonthlyReport, monthly_report
from metering.usage.report_files import render_all, render_csv, render_parquet
from metering.usage.report_json import render_json
from metering.usage.report_pdf import labels_of, render_pdf, tick_step
from metering.usage.rows import UsageRow, digest_of
from tests.usage.months import usage_month
from tests.usage.test_report import SERIES, report_of

NAMES = ["report.csv", "report.json", "report.parquet", "report.pdf"]


def test_two_runs_write_the_same_bytes_and_nothing_else(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        report, usage, _ = report_of()
        written = render_all(report, usage, tmp_path / folder)
        assert sorted(path.name for path in written) == NAMES
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == NAMES
    for name in NAMES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_usage_that_the_report_was_not_made_of_is_refused_and_nothing_written(tmp_path: Path) -> None:
    report, usage, _ = report_of()
    with pytest.raises(Conflict, match="make the report again"):
        render_all(report, replace(usage, revision_digest="0" * 64), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_json_is_canonical_and_its_quantities_are_exact_strings() -> None:
    report, usage, capacity = report_of()
    encoded = render_json(report)
    document = json.loads(encoded)
    assert rfc8785.dumps(document) == encoded
    total = document["total"]
    assert total["milli_vcpu_ms"] == str(usage.step.integral(usage.window))
    assert Fraction(total["vcpu_hours_exact"]) == Fraction(int(total["milli_vcpu_ms"]), 3_600_000_000)
    over = (usage.step - capacity).positive_part().integral(usage.window)
    assert Fraction(document["licence"]["overage_vcpu_minutes_exact"]) == Fraction(over, 60_000_000)
    assert (document["sealed"], document["revision_digest"]) == (True, usage.revision_digest)
    assert document["gaps"][0]["window"] == {"start": "2026-06-21T00:00:00.000Z", "end": "2026-06-21T03:00:00.000Z"}


def test_csv_has_a_row_for_each_hour_and_sums_to_the_report() -> None:
    report, usage, _ = report_of()
    rows = list(csv.DictReader(io.StringIO(render_csv(usage).decode())))
    assert len(rows) == 720 * len(SERIES)
    assert sum(int(row["milli_vcpu_ms"]) for row in rows) == report.milli_vcpu_ms
    assert sum(int(row["missing_ms"]) for row in rows) == report.missing_ms
    assert rows[0]["hour_start"] == "2026-06-01T00:00:00.000Z"
    assert rows == sorted(
        rows, key=lambda row: (row["hour_start"], row["project"], row["cluster"], row["component"])
    )


def test_parquet_holds_enough_to_compute_the_revision_digest_again() -> None:
    _, usage, _ = report_of()
    table = pq.read_table(io.BytesIO(render_parquet(usage)))
    rows = [
        UsageRow(
            OrganizationId(row["organization"]),
            ProjectId(row["project"]),
            ClusterId(row["cluster"]),
            row["component"],
            Window(round(row["hour_start"].timestamp() * 1000), round(row["hour_end"].timestamp() * 1000)),
            row["revision"],
            row["milli_vcpu_ms"],
            row["observed_ms"],
            row["missing_ms"],
            row["peak_milli_vcpu"],
            tuple(row["sources"]),
        )
        for row in table.to_pylist()
    ]
    assert digest_of(rows) == usage.revision_digest
    assert table.schema.metadata[b"byoc.revision_digest"].decode() == usage.revision_digest


def test_pdf_says_in_words_what_the_figures_are() -> None:
    report, usage, capacity = report_of()
    pdf = PdfReader(io.BytesIO(render_pdf(report)))
    text = " ".join(" ".join(page.extract_text() for page in pdf.pages).split())
    over = (usage.step - capacity).positive_part().integral(usage.window)
    assert "June 2026" in text
    assert "acme" in text
    assert f"{float(Fraction(report.milli_vcpu_ms, 3_600_000_000)):,.2f}" in text
    assert f"{float(Fraction(over, 60_000_000)):,.2f} vCPU-minutes" in text
    assert "2.50 component-hours" in text
    assert "2026-06-21 00:00 to 2026-06-21 03:00" in text
    assert usage.revision_digest in text.replace(" ", "")
    assert "Provisional" not in text


def test_pdf_carries_the_canonical_json_and_no_foreign_font() -> None:
    report, _, _ = report_of()
    pdf = PdfReader(io.BytesIO(render_pdf(report)))
    attached = pdf.attachments["report.json"][0]
    assert hashlib.sha256(attached).digest() == hashlib.sha256(render_json(report)).digest()
    fonts = set()
    for page in pdf.pages:
        resources = page["/Resources"]
        fonts |= {str(font.get_object()["/BaseFont"]) for font in resources["/Font"].values()}  # type: ignore[index]
    assert fonts
    assert all("LibertinusSerif" in font or "DejaVuSansMono" in font for font in fonts)


def compared(usage: UsageMonth, *, differs: bool) -> Reconciliation:
    """The first three hours of one cluster, the last two of which differ or not."""
    hours = sorted({row.hour for row in usage.rows})[:3]
    kinds = [None, Difference.MORE, Difference.MORE] if differs else [None] * 3
    project, cluster = usage.rows[0].project, usage.rows[0].cluster
    amount = 3_600_000_000
    return Reconciliation(
        tuple(
            ClusterHour(project, cluster, hour, 1, 6 * amount, 0, 4 * amount, 5 * amount, kind)
            for hour, kind in zip(hours, kinds, strict=True)
        )
    )


def text_of(report: MonthlyReport, language: str = "en") -> str:
    pdf = PdfReader(io.BytesIO(render_pdf(report, language)))
    return " ".join(" ".join(page.extract_text() for page in pdf.pages).split())


def fonts_of(pdf: bytes) -> set[str]:
    found = set()
    for page in PdfReader(io.BytesIO(pdf)).pages:
        resources = page["/Resources"]
        found |= {str(font.get_object()["/BaseFont"]) for font in resources["/Font"].values()}  # type: ignore[index]
    return found


def test_findings_of_reconciliation_are_on_the_pdf() -> None:
    report, usage, _ = report_of()
    assert "No hour of this month was compared" in text_of(report)
    agreeing = replace(report, reconciliation=compared(usage, differs=False))
    assert "All of the 3 cluster-hours that were compared agree" in text_of(agreeing)
    text = text_of(replace(report, reconciliation=compared(usage, differs=True)))
    assert "2 of 3 cluster-hours differ" in text
    assert "more measured 2026-06-01 01:00 to 2026-06-01 03:00 12.00 8.00 - 10.00" in text


def test_a_chinese_report_says_the_same_in_a_font_that_has_the_glyphs() -> None:
    """Text extraction alone would not notice boxes in place of glyphs, so the fonts are looked at too."""
    report, usage, _ = report_of()
    report = replace(report, reconciliation=compared(usage, differs=True))
    pdf = render_pdf(report, "zh")
    assert render_pdf(report, "zh") == pdf
    text = text_of(report, "zh").replace(" ", "")
    for expected in (
        "2026年6月",
        "月度许可证用量报告",
        "每日用量",
        "许可证覆盖情况",
        "按集群和组件的用量",
        "测量值偏多",
    ):
        assert expected in text
    assert f"{float(Fraction(report.milli_vcpu_ms, 3_600_000_000)):,.2f}" in text
    assert "3个集群小时中有2个" in text
    assert any("NotoSansCJK" in font for font in fonts_of(pdf))
    assert not any("NotoSansCJK" in font for font in fonts_of(render_pdf(report)))


def test_both_languages_have_the_same_words_and_no_other_is_taken() -> None:
    english, chinese = labels_of("en"), labels_of("zh")
    assert english.keys() == chinese.keys()
    for name, words in english.items():
        if name != "month":
            assert sorted(re.findall(r"{\w+}", words)) == sorted(re.findall(r"{\w+}", chinese[name])), name
    with pytest.raises(InvalidInput, match="en, zh"):
        labels_of("fr")


def test_pdf_of_an_open_month_without_capacity_says_so() -> None:
    usage = replace(usage_month("2026-02", "Etc/UTC", {("orders", "query"): [(0, 4000)]}), sealed=False)
    report = monthly_report(usage, None, "2026-02", "Etc/UTC")
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(report))).pages)
    assert "Provisional" in text
    assert "no capacity was given" in text
    assert "Licence coverage" not in text
    assert "None: all of the 672.00 component-hours" in " ".join(text.split())


def test_pdf_of_an_empty_month() -> None:
    report = monthly_report(usage_month("2026-02", "Etc/UTC", {}), None, "2026-02", "Etc/UTC")
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(report))).pages)
    assert "No component was seen" in text


def test_a_name_is_text_never_markup() -> None:
    """Typst markup in a name is printed as it stands; ids can't hold it, the template does not rely on that."""
    hostile = '#panic("x") *a* $x$'
    usage = usage_month("2026-02", "Etc/UTC", {(hostile, "query"): [(0, 4000)]})
    report = monthly_report(usage, None, "2026-02", "Etc/UTC")
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(report))).pages)
    assert '#panic("x")' in text


@given(st.fractions(min_value=0, max_value=10**9))
def test_four_ticks_reach_the_highest_value_and_no_smaller_step_would(highest: Fraction) -> None:
    step = tick_step(highest)
    assert step * 4 >= highest
    if highest > Fraction(1, 10):
        assert step * 4 < highest * Fraction(5, 2) + Fraction(1, 100)
