"""Factur-X: PDF and XML by other programs against standard, schema and rules, its amounts against the invoice's."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pypdf
import pytest
from facturx import get_xml_from_pdf, xml_check_xsd
from pypdf.generic import DictionaryObject

from billing.api import GrantTerms, InvoicePdf, invoice_pdf
from billing.contract import parse_contract
from billing.draft import canonical
from billing.facturx import render_cii
from kernel.errors import InvalidInput
from kernel.money import Money, currency
from kernel.window import month
from metering.usage.report_pdf import render_pdf
from tests.billing.deals import ACME, NOVEMBER_3, Office, contract_text, ten_vcpu_above_for_an_hour
from tests.services.mustang import Mustang
from tests.usage.test_report import report_of

OCTOBER = month("2026-10")
NAMES = {
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
}
SETTLEMENT = "rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeSettlement"
TOTALS = f"{SETTLEMENT}/ram:SpecifiedTradeSettlementHeaderMonetarySummation"
LINES = "rsm:SupplyChainTradeTransaction/ram:IncludedSupplyChainTradeLineItem"
STANDARD = 'tax: {category: S, rate: "19"}\n'


def european(*, more: str = STANDARD, customer: str = ', country: "GB"') -> str:
    """The contract of the other tests, of an entity that issues Factur-X."""
    text = contract_text(more=more)
    text = text.replace("tax_id: DE1}", 'tax_id: DE1, country: "DE", facturx: true}')
    return text.replace("address: [High Street 2, London]}", f"address: [High Street 2, London]{customer}}}")


def closed(office: Office, text: str) -> dict[str, Any]:
    office.book.add_contract(text, "contract.yaml", "test")
    office.usage.levels = ten_vcpu_above_for_an_hour(OCTOBER)
    office.run.close(ACME, "2026-10")
    return {one.kind: one for one in office.run.invoices(ACME)}


def embedded(pdf: bytes) -> ET.Element:
    """The XML in the file, found and checked against the schema of its profile by the reference library."""
    name, xml = get_xml_from_pdf(pdf, check_xsd=True, check_schematron=False)
    assert name == "factur-x.xml"
    xml_check_xsd(xml, flavor="factur-x", level="en16931")
    return ET.fromstring(xml)  # noqa: S314 - our own


def value(root: ET.Element, path: str) -> str:
    found = root.find(path, NAMES)
    assert found is not None, path
    assert found.text is not None
    return found.text


def amounts(root: ET.Element, path: str) -> list[Decimal]:
    return [Decimal(found.text or "") for found in root.findall(path, NAMES)]


def check_sums(root: ET.Element, document: Mapping[str, Any], sign: int = 1) -> None:
    """What the schema can't say: BR-CO-10 and 13 to 17, and that all amounts are the document's."""
    lines = amounts(root, f"{LINES}/ram:SpecifiedLineTradeSettlement//ram:LineTotalAmount")
    assert lines == [sign * Decimal(line["amount"]) for line in document["lines"]]
    assert sum(lines) == Decimal(value(root, f"{TOTALS}/ram:LineTotalAmount"))
    prices = amounts(root, f"{LINES}//ram:ChargeAmount")
    quantities = amounts(root, f"{LINES}//ram:BilledQuantity")
    assert [price * quantity for price, quantity in zip(prices, quantities, strict=True)] == lines
    assert min(prices) >= 0
    taxes = amounts(root, f"{SETTLEMENT}/ram:ApplicableTradeTax/ram:CalculatedAmount")
    assert sum(taxes) == Decimal(value(root, f"{TOTALS}/ram:TaxTotalAmount"))
    stated = {name: sign * Decimal(amount) for name, amount in document["totals"].items()}
    assert Decimal(value(root, f"{TOTALS}/ram:TaxBasisTotalAmount")) == stated["net"]
    assert Decimal(value(root, f"{TOTALS}/ram:TaxTotalAmount")) == stated["tax"]
    assert Decimal(value(root, f"{TOTALS}/ram:GrandTotalAmount")) == stated["gross"]
    prepaid = sum(amounts(root, f"{TOTALS}/ram:TotalPrepaidAmount"), Decimal(0))
    assert Decimal(value(root, f"{TOTALS}/ram:DuePayableAmount")) == stated["gross"] - prepaid


def test_the_invoice_in_the_pdf_is_the_invoice(small_office: Office) -> None:
    invoice = closed(small_office, european())["usage"]
    root = embedded(invoice_pdf().render(invoice.json))
    check_sums(root, invoice.document)
    assert value(root, "rsm:ExchangedDocument/ram:ID") == invoice.number
    assert value(root, "rsm:ExchangedDocument/ram:TypeCode") == "380"
    assert value(root, f"{SETTLEMENT}/ram:InvoiceCurrencyCode") == "USD"
    tax = f"{SETTLEMENT}/ram:ApplicableTradeTax"
    assert (value(root, f"{tax}/ram:CategoryCode"), value(root, f"{tax}/ram:RateApplicablePercent")) == ("S", "19")
    assert [found.get("schemeID") for found in root.iterfind(".//ram:SpecifiedTaxRegistration/ram:ID", NAMES)] == [
        "VA"
    ]
    described = [
        found.text for found in root.iterfind(f"{LINES}//ram:SpecifiedTradeProduct/ram:Description", NAMES)
    ]
    assert described[1] == "600 vCPU-minute, 900 USD per vCPU-year / (365*24*60)"


def test_the_pdf_is_a_pdf_a3_that_names_the_xml_and_the_same_bytes_each_time(small_office: Office) -> None:
    invoice = closed(small_office, european())["usage"]
    pdf = invoice_pdf().render(invoice.json)
    assert InvoicePdf().render(invoice.json) == pdf
    reader = pypdf.PdfReader(io.BytesIO(pdf))
    catalog = reader.trailer["/Root"]
    [file] = [one.get_object() for one in catalog["/AF"]]  # type: ignore[index]
    assert (file["/F"], file["/AFRelationship"]) == ("factur-x.xml", "/Alternative")
    xmp = catalog["/Metadata"].get_data()  # type: ignore[index]
    metadata = ET.fromstring(re.sub(rb"<\?xpacket[^>]*\?>", b"", xmp))  # noqa: S314 - our own
    stated = {found.tag.rpartition("}")[2]: found.text for found in metadata.iter() if found.text}
    assert (stated["part"], stated["conformance"]) == ("3", "B")
    assert (stated["DocumentFileName"], stated["ConformanceLevel"]) == ("factur-x.xml", "EN 16931")
    assert reader.pdf_header == "%PDF-1.7"
    text = "".join(page.extract_text() for page in reader.pages)
    assert invoice.number in text


def test_a_credit_note_is_of_type_381_with_positive_amounts_and_names_its_invoice(small_office: Office) -> None:
    invoice = closed(small_office, european())["commitment"]
    amount = {0: Money(Decimal("100.00"), currency("USD"))}
    note = small_office.receivables.credit(invoice.number, amount, "agreed with the customer")
    root = embedded(invoice_pdf().render(note.json))
    check_sums(root, note.document, sign=-1)
    assert value(root, "rsm:ExchangedDocument/ram:TypeCode") == "381"
    assert value(root, f"{SETTLEMENT}/ram:InvoiceReferencedDocument/ram:IssuerAssignedID") == invoice.number
    assert Decimal(value(root, f"{TOTALS}/ram:GrandTotalAmount")) == Decimal("119.00")


def test_reverse_charge_is_category_ae_with_its_reason(small_office: Office) -> None:
    text = european(more='tax: {category: AE, rate: "0"}\n', customer=', country: "AT", tax_id: ATU12345678')
    invoice = closed(small_office, text)["usage"]
    root = embedded(invoice_pdf().render(invoice.json))
    check_sums(root, invoice.document)
    tax = f"{SETTLEMENT}/ram:ApplicableTradeTax"
    assert value(root, f"{tax}/ram:CategoryCode") == "AE"
    assert value(root, f"{tax}/ram:ExemptionReason").startswith("Reverse charge")
    buyer = "rsm:SupplyChainTradeTransaction/ram:ApplicableHeaderTradeAgreement/ram:BuyerTradeParty"
    assert value(root, f"{buyer}/ram:SpecifiedTaxRegistration/ram:ID") == "ATU12345678"


@pytest.mark.slow
@pytest.mark.services
def test_an_independent_validator_finds_each_document_valid_and_each_broken_one_not(
    small_office: Office, tmp_path: Path, mustang: Mustang
) -> None:
    """veraPDF for PDF/A-3b, schema and published rules of Factur-X for the XML: Mustang's validator has both."""
    documents = closed(small_office, european())
    amount = {0: Money(Decimal("100.00"), currency("USD"))}
    note = small_office.receivables.credit(documents["commitment"].number, amount, "agreed with the customer")
    customer = {**documents["usage"].document["customer"], "name": "示例向量科技(上海)有限公司"}
    chinese = {**documents["usage"].document, "language": "zh", "customer": customer}
    renderer = invoice_pdf()
    invoice = renderer.render(documents["usage"].json)
    files = {
        "invoice": invoice,
        "note": renderer.render(note.json),
        "chinese": renderer.render(canonical(chinese)),
        "report": render_pdf(report_of()[0], "zh"),
    }
    xml = render_cii(documents["usage"].document)
    files["unnamed"] = renderer.compile(
        "invoice.typ",
        {"document": documents["usage"].json.decode(), "facturx": xml.decode(), "facturx-name": "factur-x.xml"},
        NOVEMBER_3,
        standard="a-3b",
    )
    files["amount"] = spoiled(invoice, a_cent_more)
    files["unattached"] = spoiled(files["note"], lambda writer: writer.root_object.pop("/AF"))
    files["fontless"] = spoiled(files["chinese"], without_fonts)
    paths = [tmp_path / f"{name}.pdf" for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    judged = mustang.judge(paths)

    assert {name for name, one in judged.items() if one.is_valid} == {"invoice", "note", "chinese"}
    assert judged["report"].is_pdf_a  # a PDF/A-3b that carries its figures and is no invoice
    assert judged["unnamed"].is_pdf_a
    assert "XMP Metadata: ConformanceLevel not found" in judged["unnamed"].metadata
    assert judged["amount"].is_pdf_a
    assert any("BR-CO-10" in error for error in judged["amount"].xml)
    assert judged["unattached"].clauses == {"6.8"}  # ISO 19005-3: associated files
    assert judged["fontless"].clauses == {"6.2.11.4.1"}  # embedded fonts
    assert judged["fontless"].is_xml_valid


def spoiled(pdf: bytes, change: Callable[[pypdf.PdfWriter], object]) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf))
    writer.pdf_header = pdf[:8].decode()
    change(writer)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def a_cent_more(writer: pypdf.PdfWriter) -> None:
    """In the sum of the lines, in the XML alone."""
    [file] = [one.get_object() for one in writer.root_object["/AF"]]  # type: ignore[attr-defined]
    stream = file["/EF"]["/F"].get_object()
    before, found, after = stream.get_data().rpartition(b"<ram:LineTotalAmount>1.03<")
    assert found
    stream.set_data(before + b"<ram:LineTotalAmount>1.04<" + after)


def without_fonts(writer: pypdf.PdfWriter) -> None:
    described = [one for one in writer._objects if isinstance(one, DictionaryObject) and "/FontFile3" in one]
    assert described
    for one in described:
        del one["/FontFile3"]


def test_what_was_prepaid_is_not_due(small_office: Office) -> None:
    paid = Money(Decimal("1000.00"), currency("USD"))
    small_office.prepaid.add("bought-1", ACME, paid, GrantTerms("wire-1"))
    invoice = closed(small_office, european())["commitment"]
    root = embedded(invoice_pdf().render(invoice.json))
    check_sums(root, invoice.document)
    assert Decimal(value(root, f"{TOTALS}/ram:TotalPrepaidAmount")) == 1000


def test_only_who_asks_for_it_gets_it(small_office: Office) -> None:
    invoice = closed(small_office, european().replace(", facturx: true", ""))["usage"]
    assert not pypdf.PdfReader(io.BytesIO(invoice_pdf().render(invoice.json))).attachments
    check_sums(embedded(invoice_pdf().render(invoice.json, facturx=True)), invoice.document)


def test_a_document_that_lacks_what_the_standard_needs_is_refused_with_all_of_it(small_office: Office) -> None:
    invoice = closed(small_office, contract_text())["usage"]
    with pytest.raises(InvalidInput) as refused:
        invoice_pdf().render(invoice.json, facturx=True)
    assert [finding.where for finding in refused.value.findings] == ["seller.country", "customer.country", "tax"]
    draft = json.loads(small_office.run.draft(ACME, "2026-11").json())
    with pytest.raises(InvalidInput, match="an issued document"):
        render_cii(draft)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (european(customer=""), "customer.country"),
        (european(customer=', country: "England"'), "customer.country"),
        (european(customer=", country: NO"), "customer.country"),  # YAML's no
        (european(more=""), "tax"),
        (european(more='tax: {category: AE, rate: "0"}\n'), "customer.tax_id"),
        (european().replace("tax_id: DE1, ", ""), "legal_entity.tax_id"),
        (european().replace("currency: USD", "currency: BHD"), "currency"),
    ],
)
def test_a_contract_that_can_not_be_factur_x_is_refused_when_it_is_read(text: str, where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_contract(text, "contract.yaml")
    assert where in {finding.where for finding in refused.value.findings}


def test_hostile_names_are_text_in_the_xml(small_office: Office, tmp_path: Path) -> None:
    name = '<Ltd> & ]]> "quoted" 测试'
    invoice = closed(small_office, european().replace("name: Acme Ltd", f"name: {json.dumps(name)}"))["usage"]
    root = ET.fromstring(render_cii(invoice.document))  # noqa: S314 - our own
    assert value(root, ".//ram:BuyerTradeParty/ram:Name") == name
