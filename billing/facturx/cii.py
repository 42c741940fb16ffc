"""An issued document as CII D16B XML, profile EN 16931 (BT and BR numbers are those of EN 16931-1). Pure.

Amounts are the document's, none is computed. A quantity times a price here must be exact to the cent, which a price
for a vCPU-minute is not: each line is one piece (C62) at its amount, and what it was made of is its description.
A credit note is of type 381, with the signs turned round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

from billing.tax import REVERSE_CHARGE
from kernel.errors import Finding, raise_findings

FILE_NAME = "factur-x.xml"
PROFILE = "urn:cen.eu:en16931:2017"
INVOICE, CREDIT_NOTE = "380", "381"  # UNTDID 1001
_RSM = "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"
_RAM = "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"
_UDT = "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100"
_ADDRESS_LINES = ("LineOne", "LineTwo", "LineThree")
_VAT_PREFIXES = {"GR": "EL"}  # where the prefix of a VAT number is not the country's code
_REASONS = {"AE": REVERSE_CHARGE, "E": "Exempt from tax"}  # BT-120

Document = Mapping[str, Any]


def render_cii(document: Document) -> bytes:
    """The XML of a document's JSON; the same bytes each time. Raises InvalidInput with what EN 16931 misses."""
    raise_findings([*_lacking(document)])
    root = ET.Element(f"{{{_RSM}}}CrossIndustryInvoice")
    context = _in(root, "rsm:ExchangedDocumentContext")
    _text(context, "GuidelineSpecifiedDocumentContextParameter/ID", PROFILE)
    _header(_in(root, "rsm:ExchangedDocument"), document)
    transaction = _in(root, "rsm:SupplyChainTradeTransaction")
    for number, line in enumerate(document["lines"], start=1):
        _line(_in(transaction, "IncludedSupplyChainTradeLineItem"), document, number, line)
    _agreement(_in(transaction, "ApplicableHeaderTradeAgreement"), document)
    _in(transaction, "ApplicableHeaderTradeDelivery")
    _settlement(_in(transaction, "ApplicableHeaderTradeSettlement"), document)
    for prefix, uri in (("rsm", _RSM), ("ram", _RAM), ("udt", _UDT)):
        ET.register_namespace(prefix, uri)
    return bytes(ET.tostring(root, encoding="UTF-8", xml_declaration=True)) + b"\n"


def _lacking(document: Document) -> Iterable[Finding]:
    source = f"document {document['number'] or 'without number'}"
    if document["number"] is None:
        yield Finding(source, "status", "draft", "an issued document")
    for who in ("seller", "customer"):
        if not document[who].get("country"):
            yield Finding(source, f"{who}.country", "nothing", "its ISO 3166 code in the contract")
    if any(line["tax"] is None for line in document["lines"]):
        yield Finding(source, "tax", "a line without tax", "`tax` in the contract")
    if int(document["currency"]["decimals"]) > 2:
        yield Finding(source, "currency", document["currency"]["code"], "a currency of at most two decimals")
    categories = {tax["category"] for tax in document["taxes"]}
    for who, needed in (("seller", True), ("customer", "AE" in categories)):
        if needed and not document[who]["tax_id"]:
            yield Finding(source, f"{who}.tax_id", "nothing", "its tax number in the contract")


def _header(header: ET.Element, document: Document) -> None:
    _text(header, "ID", document["number"])
    _text(header, "TypeCode", CREDIT_NOTE if document["kind"] == "credit-note" else INVOICE)
    _date(_in(header, "IssueDateTime"), document["issue_date"])
    notes = [*document["notes"], *([document["reason"]] if document.get("reason") else ())]
    for note in dict.fromkeys([*notes, *(note for line in document["lines"] for note in line["notes"])]):
        _text(header, "IncludedNote/Content", note)


def _line(item: ET.Element, document: Document, number: int, line: Document) -> None:
    amount = _signed(document, line["amount"])
    _text(item, "AssociatedDocumentLineDocument/LineID", str(number))
    product = _in(item, "SpecifiedTradeProduct")
    _text(product, "Name", line["description"])
    _text(product, "Description", _made_of(line))
    price = "SpecifiedLineTradeAgreement/NetPriceProductTradePrice/ChargeAmount"
    _text(item, price, f"{abs(amount):f}")  # BR-27: a price is not negative, a quantity may be
    quantity = _text(item, "SpecifiedLineTradeDelivery/BilledQuantity", "-1" if amount < 0 else "1")
    quantity.set("unitCode", "C62")
    settlement = _in(item, "SpecifiedLineTradeSettlement")
    tax = _in(settlement, "ApplicableTradeTax")
    _text(tax, "TypeCode", "VAT")
    _text(tax, "CategoryCode", line["tax"]["category"])
    _text(tax, "RateApplicablePercent", line["tax"]["rate"])
    _period(_in(settlement, "BillingSpecifiedPeriod"), line["period"], document["period"]["time_zone"])
    _text(settlement, "SpecifiedTradeSettlementLineMonetarySummation/LineTotalAmount", f"{amount:f}")


def _made_of(line: Document) -> str:
    made = line["derivation"]
    quantity = f"{made['quantity']['shown']} {made['quantity']['unit']}"
    corrects = f", corrects {line['corrects']}" if "corrects" in line else ""
    return f"{quantity}, {made['rate']['basis']}{corrects}" if made["rate"] else f"{quantity}{corrects}"


def _agreement(agreement: ET.Element, document: Document) -> None:
    _party(_in(agreement, "SellerTradeParty"), document["seller"], is_seller=True)
    _party(_in(agreement, "BuyerTradeParty"), document["customer"], is_seller=False)
    _text(agreement, "ContractReferencedDocument/IssuerAssignedID", document["contract"]["id"])


def _party(party: ET.Element, who: Document, *, is_seller: bool) -> None:
    _text(party, "Name", who["name"])
    is_vat = bool(who["tax_id"]) and who["tax_id"].startswith(_VAT_PREFIXES.get(who["country"], who["country"]))
    if who["tax_id"] and not is_vat and not is_seller:
        _text(party, "SpecifiedLegalOrganization/ID", who["tax_id"])  # BT-47: BT-48 takes VAT numbers alone
    address = _in(party, "PostalTradeAddress")
    lines = [*who["address"][:2], *([", ".join(who["address"][2:])] if len(who["address"]) > 2 else ())]
    for name, text in zip(_ADDRESS_LINES, lines, strict=False):
        _text(address, name, text)
    _text(address, "CountryID", who["country"])
    if who["tax_id"] and (is_vat or is_seller):
        _text(party, "SpecifiedTaxRegistration/ID", who["tax_id"]).set("schemeID", "VA" if is_vat else "FC")


def _settlement(settlement: ET.Element, document: Document) -> None:
    code = document["currency"]["code"]
    _text(settlement, "InvoiceCurrencyCode", code)
    for group in document["taxes"]:
        tax = _in(settlement, "ApplicableTradeTax")
        _text(tax, "CalculatedAmount", f"{_signed(document, group['amount']):f}")
        _text(tax, "TypeCode", "VAT")
        if group["category"] in _REASONS:
            _text(tax, "ExemptionReason", _REASONS[group["category"]])
        _text(tax, "BasisAmount", f"{_signed(document, group['basis']):f}")
        _text(tax, "CategoryCode", group["category"])
        _text(tax, "RateApplicablePercent", group["rate"])
    _period(_in(settlement, "BillingSpecifiedPeriod"), document["period"], document["period"]["time_zone"])
    due = _signed(document, document["payment"]["due"])
    if due > 0:
        terms = _in(settlement, "SpecifiedTradePaymentTerms")
        _date(_in(terms, "DueDateDateTime"), document["payment"]["due_date"])
    totals = _in(settlement, "SpecifiedTradeSettlementHeaderMonetarySummation")
    net, tax_total, gross = (_signed(document, document["totals"][name]) for name in ("net", "tax", "gross"))
    _text(totals, "LineTotalAmount", f"{net:f}")
    _text(totals, "TaxBasisTotalAmount", f"{net:f}")
    _text(totals, "TaxTotalAmount", f"{tax_total:f}").set("currencyID", code)
    _text(totals, "GrandTotalAmount", f"{gross:f}")
    prepaid = sum((Decimal(draw["amount"]) for draw in document["payment"]["prepaid"]), Decimal(0))
    if prepaid:
        _text(totals, "TotalPrepaidAmount", f"{prepaid:f}")
    _text(totals, "DuePayableAmount", f"{due:f}")
    if document.get("credits"):
        _text(settlement, "InvoiceReferencedDocument/IssuerAssignedID", document["credits"])


def _signed(document: Document, amount: str) -> Decimal:
    """The amount as it stands on a document of its type: what a credit note gives back is positive."""
    value = Decimal(amount)
    return -value if document["kind"] == "credit-note" and value else value


def _period(parent: ET.Element, period: Document, zone: str) -> None:
    """First and last day, local; ours ends with the midnight after it."""
    first = datetime.fromisoformat(period["start"]).astimezone(ZoneInfo(zone))
    last = (datetime.fromisoformat(period["end"]) - timedelta(milliseconds=1)).astimezone(ZoneInfo(zone))
    _date(_in(parent, "StartDateTime"), first.date().isoformat())
    _date(_in(parent, "EndDateTime"), last.date().isoformat())


def _date(parent: ET.Element, day: str) -> None:
    element = _in(parent, "udt:DateTimeString")
    element.set("format", "102")
    element.text = day.replace("-", "")


def _in(parent: ET.Element, name: str) -> ET.Element:
    prefix, _, local = name.rpartition(":")
    uri = {"rsm": _RSM, "udt": _UDT}.get(prefix, _RAM)
    return ET.SubElement(parent, f"{{{uri}}}{local}")


def _text(parent: ET.Element, path: str, text: str) -> ET.Element:
    """A new element for each step of the path, the last with that text."""
    element = parent
    for name in path.split("/"):
        element = _in(element, name)
    element.text = text
    return element
