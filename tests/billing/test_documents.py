"""The documents as a reader gets them: a golden JSON, and a PDF with the same words and the same bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pypdf
import pytest

from billing.api import InvoicePdf, invoice_pdf
from billing.draft import canonical
from billing.fields import is_printed
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import hour_of, month
from metering.usage.model import UsageRow
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
        assert all(glyph for page in pdf.pages for glyph in _glyphs(page))


def _glyphs(page: pypdf.PageObject) -> Iterator[int]:
    contents = page.get_contents()
    assert contents is not None
    for operands, operator in contents.operations:
        shown = operands[0] if operator == b"TJ" else operands if operator == b"Tj" else []
        for part in shown:
            encoded: bytes = getattr(part, "original_bytes", b"")
            yield from (int.from_bytes(encoded[at : at + 2]) for at in range(0, len(encoded), 2))


def test_the_fonts_are_the_compilers_own(small_office: Office) -> None:
    pdf = pypdf.PdfReader(io.BytesIO(invoice_pdf().render(_close(small_office))))
    names = {
        str(font.get_object()["/BaseFont"]).split("+")[-1].removesuffix("-Identity-H")
        for page in pdf.pages
        for font in page["/Resources"]["/Font"].values()  # type: ignore[index]
    }

    assert names <= {"LibertinusSerif-Regular", "LibertinusSerif-Bold", "DejaVuSansMono"}
