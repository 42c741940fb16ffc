"""The documents as a reader gets them: a golden JSON, and a PDF with the same words and the same bytes."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

import billing.pdf
from billing.api import GrantTerms, InvoicePdf, invoice_pdf
from billing.contract import parse_contract
from billing.draft import canonical
from billing.fields import is_printed
from billing.spread import integrals
from billing.words import phrase
from kernel.errors import InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.money import Money, currency
from kernel.steps import StepFunction
from kernel.window import Window, hour_of, month
from metering.usage.rows import UsageRow
from tests.billing.deals import ACME, HOUR_MS, NOVEMBER_3, Office, contract_text, ten_vcpu_above_for_an_hour
from tests.golden import FOLDER

OCTOBER = month("2026-10")


def _close(office: Office, **contract: object) -> bytes:
    office.book.add_contract(contract_text(**contract), "contract.yaml", "test")  # type: ignore[arg-type]
    office.usage.levels = ten_vcpu_above_for_an_hour(OCTOBER)
    hour = hour_of(OCTOBER.start_ms + HOUR_MS)
    integral, observed = 26_000 * (HOUR_MS - 60_000), HOUR_MS - 60_000
    office.usage.rows = (
        UsageRow(
            ACME, ProjectId("main"), ClusterId("c1"), "query", hour, 1, integral, observed, 60_000, 26_000, ("f s",)
        ),
    )
    office.usage.missing_ms = 60_000
    return office.run.close(ACME, "2026-10").invoice.json


def _text(pdf: bytes) -> str:
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return "\n".join(page.extract_text() for page in pages)


def test_the_golden_invoice(small_office: Office) -> None:
    """`invoice.json` is the canonical document indented, so that a change of any figure is a line of a diff."""
    encoded = _close(small_office, more='tax: {category: S, rate: "19"}\n')
    golden = json.loads((FOLDER / "invoice.json").read_text())

    assert json.loads(encoded) == golden
    assert encoded == canonical(golden)


def test_no_json_number_carries_an_amount(small_office: Office) -> None:
    def numbers(value: object) -> list[object]:
        if isinstance(value, dict):
            return [found for inner in value.values() for found in numbers(inner)]
        if isinstance(value, list):
            return [found for inner in value for found in numbers(inner)]
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []

    assert numbers(json.loads(_close(small_office))) == []


def test_the_pdf_says_what_the_customer_must_know(small_office: Office) -> None:
    text = _text(invoice_pdf().render(_close(small_office, more='tax: {category: S, rate: "19"}\n')))

    for expected in (
        "Invoice EXAMPLE-EU-2026-000002",
        "issued on 2026-11-03",
        "Example Europe GmbH",
        "Acme Ltd",
        "Period 2026-10 (2026-10-01 00:00 to 2026-11-01 00:00 UTC",
        "On-demand usage above the commitment 600 vCPU-minute 1.03",
        "900 USD per vCPU-year / (365*24*60)",
        "Above the commitment 10.000 vCPU-hours",
        "Time without data 0.02 component-hours",
        "VAT 19 % on 1.03 (category S) 0.20",
        "Total 1.23",
        "Data is missing for 0.02 component-hours (less than 0.01 %",
        "2026-10-01 600",
    ):
        assert expected in text


def test_the_pdf_has_the_same_bytes_each_time(small_office: Office) -> None:
    encoded = _close(small_office)

    first = invoice_pdf().render(encoded)

    assert InvoicePdf().render(encoded) == first
    metadata = pypdf.PdfReader(io.BytesIO(first)).metadata
    assert metadata is not None
    assert metadata.creation_date == NOVEMBER_3


def test_a_draft_pdf_is_marked_as_one(small_office: Office) -> None:
    _close(small_office)
    text = _text(invoice_pdf().render(small_office.run.draft(ACME, "2026-10").json()))

    assert "Draft invoice" in text
    assert "not issued, not payable" in text
    assert "EXAMPLE-EU-2026" not in text


@pytest.mark.parametrize("name", ["#panic()", "$x^2$ *bold* _i_ @ref <label>", 'a"b\\c', "Łódź Öl Ελλάδα Київ"])
def test_a_customers_name_is_printed_and_never_run(small_office: Office, name: str) -> None:
    text = contract_text().replace("name: Acme Ltd", f"name: {json.dumps(name, ensure_ascii=False)}")
    small_office.book.add_contract(text, "contract.yaml", "test")
    document = small_office.run.draft(ACME, "2026-10").json()

    assert name in _text(invoice_pdf().render(document))


def test_every_accepted_character_has_a_glyph(small_office: Office) -> None:
    """A missing glyph prints as a box and is still extracted as text; so look at glyph numbers: 0 is the box."""
    accepted = [character for character in map(chr, range(0x20, 0x3000)) if is_printed(character)]
    lines = [json.dumps("".join(accepted[start : start + 90]), ensure_ascii=False) for start in range(0, 1200, 90)]
    text = contract_text(more="").replace("[High Street 2, London]", f"[{', '.join(lines[:8])}]")
    other = contract_text("beta").replace("[High Street 2, London]", f"[{', '.join(lines[8:])}]")
    assert len(accepted) <= 1200
    for organization, source in ((ACME, text), (OrganizationId("beta"), other)):
        small_office.book.add_contract(source, "contract.yaml", "test")
        pdf = pypdf.PdfReader(
            io.BytesIO(invoice_pdf().render(small_office.run.draft(organization, "2026-10").json()))
        )
        assert all(glyph for page in pdf.pages for glyph in glyphs_of(page))


def glyphs_of(page: pypdf.PageObject) -> Iterator[int]:
    contents = page.get_contents()
    assert contents is not None
    for operands, operator in contents.operations:
        shown = operands[0] if operator == b"TJ" else operands if operator == b"Tj" else []
        for part in shown:
            encoded: bytes = getattr(part, "original_bytes", b"")
            yield from (int.from_bytes(encoded[at : at + 2]) for at in range(0, len(encoded), 2))


def test_the_fonts_of_chinese_hold_a_glyph_for_each_accepted_character(small_office: Office) -> None:
    """The edges of each accepted range, and every 41st of the rest: all 35,000 would embed the whole font."""
    accepted = [number for number in range(0x2E80, 0x110000) if is_printed(chr(number))]
    known = set(accepted)
    edges = [number for number in accepted if not {number - 1, number + 1} <= known]
    chosen = "".join(map(chr, sorted({*edges, *accepted[::41]})))
    document = json.loads(_close(small_office))
    plain = invoice_pdf().render(canonical(document))
    pdf = pypdf.PdfReader(io.BytesIO(invoice_pdf().render(canonical(document | {"notes": [chosen]}))))

    assert "NotoSansCJKsc-Regular" in fonts_of(pdf)
    assert "NotoSansCJKsc-Regular" not in fonts_of(pypdf.PdfReader(io.BytesIO(plain)))
    glyphs = [glyph for page in pdf.pages for glyph in glyphs_of(page)]
    assert all(glyphs)
    assert len(glyphs) > len(chosen) > 800


@pytest.mark.parametrize(
    "character", ["\U0001f600", "\u0915", "\u0627", "\u4db6", "\u9ff0", "\u302a", "\u200b", "\n"]
)
def test_what_would_print_as_a_box_is_refused(character: str) -> None:
    assert not is_printed(f"Acme {character}")


def test_a_chinese_contract_has_a_chinese_invoice_in_a_chinese_font(small_office: Office) -> None:
    buyer = "上海向量科技有限公司"
    more = 'language: zh\ntax: {category: S, rate: "19"}\n'
    office = small_office
    office.book.add_contract(contract_text(more=more).replace("Acme Ltd", buyer), "contract.yaml", "test")
    office.usage.levels = ten_vcpu_above_for_an_hour(OCTOBER)
    office.usage.missing_ms = 60_000
    pdf = pypdf.PdfReader(io.BytesIO(invoice_pdf().render(office.run.close(ACME, "2026-10").invoice.json)))
    text = "\n".join(page.extract_text() for page in pdf.pages)

    for expected in (
        "发票",
        "开具日期 2026-11-03",
        buyer,
        "2 超出承诺容量的按需用量 600 vCPU·分钟 1.03",
        "VAT 19 %,计税基础 1.03 (类别 S) 0.20",
        "付款到期日 2026-12-03",
        "缺少 0.02 组件·小时的数据",
        "本期间没有用量数据。",
        "每日用量(vCPU·小时)",
    ):
        assert expected in text
    assert "NotoSansCJKsc-Regular" in fonts_of(pdf), "text extraction alone does not notice boxes"
    assert all(glyph for page in pdf.pages for glyph in glyphs_of(page))


def test_each_label_is_there_in_every_language() -> None:
    """And each sentence that is translated takes as many words from the English one as it has places for."""
    templates = Path(billing.pdf.__file__).with_name("templates")
    labels = json.loads((templates / "labels.json").read_text())
    assert labels["en"].keys() == labels["zh"].keys()
    for english, said in json.loads((templates / "words.json").read_text())["zh"]["phrases"].items():
        assert re.compile(english).groups == said.count("\\"), english
    assert phrase("Correction: On-demand usage above the commitment") == "更正:超出承诺容量的按需用量"
    assert phrase("Storage of the vendor") == "Storage of the vendor"


def test_a_credit_note_says_what_it_is_for(small_office: Office) -> None:
    number = json.loads(_close(small_office))["number"]
    note = small_office.receivables.credit(number, {1: Money(Decimal("0.50"), currency("USD"))}, "outage")
    text = _text(invoice_pdf().render(note.json))

    for expected in (
        "Credit note EXAMPLE-EU-2026-CN000001",
        f"For invoice {number}",
        "Reason outage",
        f"corrects {number}, service period 2026-10-01 00:00 to 2026-11-01 00:00 UTC",
        "To your credit -0.50",
        "credited 1 sum of line 2 -0.5",
    ):
        assert expected in text
    assert "Due 2026" not in text


def test_charges_are_printed_with_their_parts_and_prepaid_credits_with_what_they_paid(small_office: Office) -> None:
    charge = """\
charges:
  - charge: reads
    description: Reads
    meter: reads
    group_by: cluster
    steps:
      - start: 2026-10-01
        model: {kind: graduated, tiers: [{up_to: "10", unit: "1"}, {up_to: null, unit: "2"}]}
"""
    small_office.usage.meters = {"reads": {"c1": {OCTOBER.start_ms: Fraction(12)}}}
    small_office.prepaid.add("bought-1", ACME, Money(Decimal("14405.00"), currency("USD")), GrantTerms("wire-1"))
    text = _text(invoice_pdf().render(_close(small_office, more=charge)))

    for expected in ("Reads (cluster c1) 12 call 14.00", "2 call", "bought-1 -5.00", "Due 10.03"):
        assert expected in text


def test_days_and_clusters_add_up_to_what_was_used(small_office: Office) -> None:
    usage = json.loads(_close(small_office))["usage"]
    used = ten_vcpu_above_for_an_hour(OCTOBER)

    assert sum(int(day["milli_vcpu_ms"]) for day in usage["days"]) == StepFunction.of(used).integral(OCTOBER)
    assert [day["day"] for day in usage["days"] if day["above_milli_vcpu_ms"] != "0"] == ["2026-10-01"]
    assert sum(int(one["milli_vcpu_ms"]) for one in usage["clusters"]) == small_office.usage.rows[0].milli_vcpu_ms


@given(
    st.lists(st.tuples(st.integers(-50, 150), st.integers(0, 99)), max_size=9),
    st.lists(st.integers(0, 100), min_size=2, max_size=9, unique=True),
)
def test_integrals_in_one_pass_are_those_of_each_window(points: list[tuple[int, int]], cuts: list[int]) -> None:
    step, edges = StepFunction.of(sorted(dict(points).items())), sorted(cuts)
    assert integrals(step, edges) == [step.integral(Window(start, end)) for start, end in pairwise(edges)]


_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_a_logo_is_the_picture_that_the_contract_names(small_office: Office, tmp_path: Path) -> None:
    (tmp_path / "example.png").write_bytes(_PNG)
    logo = f"logo: {{file: example.png, sha256: {sha256(_PNG).hexdigest()}}}"
    text = contract_text().replace("tax_id: DE1}", f"tax_id: DE1, {logo}}}")
    small_office.book.add_contract(text, "contract.yaml", "test")
    document = small_office.run.draft(ACME, "2026-10").json()

    page = pypdf.PdfReader(io.BytesIO(InvoicePdf(tmp_path).render(document))).pages[0]
    assert len(page.images) == 1
    with pytest.raises(InvalidInput, match="no such file"):
        InvoicePdf(tmp_path / "elsewhere").render(document)
    (tmp_path / "example.png").write_bytes(_PNG + b"x")
    with pytest.raises(InvalidInput, match="as the contract says"):
        InvoicePdf(tmp_path).render(document)
    (tmp_path / "example.png").write_bytes(bytes(300_000))
    with pytest.raises(InvalidInput, match="at most 200000 bytes"):
        InvoicePdf(tmp_path).render(document)


def test_what_is_no_picture_or_has_colours_of_print_is_refused_with_the_field(
    small_office: Office, tmp_path: Path
) -> None:
    content = b"no picture"
    (tmp_path / "example.png").write_bytes(content)
    logo = f"logo: {{file: example.png, sha256: {sha256(content).hexdigest()}}}"
    small_office.book.add_contract(
        contract_text().replace("tax_id: DE1}", f"tax_id: DE1, {logo}}}"), "contract.yaml", "test"
    )
    with pytest.raises(InvalidInput, match=r"seller\.logo.*unknown image format.*a PNG or JPEG in grey or RGB"):
        InvoicePdf(tmp_path).render(small_office.run.draft(ACME, "2026-10").json())


def test_totals_are_never_torn_apart_nor_alone_on_a_page(small_office: Office) -> None:
    """As the lines grow by one, the totals cross the edge of the page; the head of the table is on each page."""
    document = json.loads(_close(small_office, more='tax: {category: S, rate: "19"}\n'))
    first = document["lines"][0]
    line = {**first, "description": "One more line", "derivation": {**first["derivation"], "facts": []}}
    pages_of_totals = set()
    for count in range(23, 29):
        made = {**document, "lines": [*[line] * count, {**line, "description": "The last line"}]}
        pages = pypdf.PdfReader(io.BytesIO(invoice_pdf().render(canonical(made)))).pages
        tables = [pages[index].extract_text().split("How each amount was made")[0] for index in (0, 1)]
        [at] = [index for index, text in enumerate(tables) if "\nNet 1.03" in text]
        for expected in ("Description Quantity Amount", "The last line", "VAT 19 %", "Total 1.23", "Due 1.23"):
            assert expected in tables[at], (count, expected)
        pages_of_totals.add(at)
    assert pages_of_totals == {0, 1}


def test_a_word_wider_than_its_column_goes_on_in_the_next_line(small_office: Office) -> None:
    name = "Donaudampfschiff" * 9
    text = contract_text().replace("name: Acme Ltd", f"name: {name}")
    small_office.book.add_contract(text, "contract.yaml", "test")
    document = small_office.run.draft(ACME, "2026-10").json()
    text = _text(invoice_pdf().render(document))
    assert name in text.replace("\n", "")
    assert name not in text


@pytest.mark.parametrize("file", ["https://example.com/a.png", "../a.png", "/etc/a.png", "a.svg", "A.png"])
def test_a_logo_is_neither_a_url_nor_a_path(file: str) -> None:
    logo = f"logo: {{file: {file!r}, sha256: {'0' * 64}}}"
    with pytest.raises(InvalidInput, match="no folder and no URL"):
        parse_contract(contract_text().replace("tax_id: DE1}", f"tax_id: DE1, {logo}}}"), "contract.yaml")


def fonts_of(pdf: pypdf.PdfReader) -> set[str]:
    return {
        str(font.get_object()["/BaseFont"]).split("+")[-1].removesuffix("-Identity-H")
        for page in pdf.pages
        for font in page["/Resources"]["/Font"].values()  # type: ignore[index]
    }


def test_the_fonts_are_the_compilers_own(small_office: Office) -> None:
    pdf = pypdf.PdfReader(io.BytesIO(invoice_pdf().render(_close(small_office))))
    assert fonts_of(pdf) <= {"LibertinusSerif-Regular", "LibertinusSerif-Bold", "DejaVuSansMono"}
