"""Contracts, licences and price books that are wrong: refused whole, by field, with what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.contract import Contract, parse_contract
from billing.documents import parse_content, render_content
from billing.errors import SnapshotConflict
from billing.licence import parse_licence
from billing.prices import parse_price_book
from kernel.errors import InvalidInput, NotFound
from kernel.ids import OrganizationId
from tests.billing.deals import ACME, Office, contract_text, licence_text
from tests.effort import costly

PRICES = """
price_book: standard
version: 1
prices:
  - {item: vcpu-year, currency: USD, start: 2025-01-01, amount: "900.00"}
  - {item: vcpu-year, currency: USD, start: 2027-01-01, amount: "950.00"}
  - {item: vcpu-year, currency: JPY, start: 2025-01-01, amount: "140000"}
"""
FROM_BOOK = ('price_per_vcpu_year: "900.00"', "price: {book: standard, version: 1}")


@pytest.mark.parametrize(
    ("before", "after", "where", "allowed"),
    [
        ('"900.00"', "900.00", "price_per_vcpu_year", "decimal in quotes"),
        ('"900.00"', "900", "price_per_vcpu_year", "decimal in quotes"),
        ('"900.00"', '"-900.00"', "price_per_vcpu_year", "not negative"),
        ('"900.00"', '"9e2"', "price_per_vcpu_year", "decimal in quotes"),
        ('"900.00"', '"NaN"', "price_per_vcpu_year", "decimal in quotes"),
        ("currency: USD", "currency: USX", "currency", "ISO 4217"),
        ("currency: USD", "currency: XAU", "currency", "ISO 4217"),
        ("end: 2027-10-01", "end: 2026-09-30", "term.end", "a day after term.start"),
        ("end: 2027-10-01", "end: 2026-10-01", "term.end", "a day after term.start"),
        ("end: 2027-10-01", "end: 2199-10-01", "term.end", "at most 20 years"),
        ("end: 2027-10-01", "end: 2027-10-01 12:00:00", "term.end", "a date such as"),
        ("end: 2027-10-01", "end: 2027-02-30", "line 6, column 32", "YAML"),
        ("on_demand: true", "on_demand: 1", "on_demand", "true or false"),
        ("on_demand: true", "on_demand: 'true'", "on_demand", "true or false"),
        ("on_demand: true", "on_demand: true\ndiscount: 5", "discount", "the nearest is discounts"),
        ("vcpu: 16", "vcpu: 16.5", "commitment[0].vcpu", "decimal in quotes"),
        ("vcpu: 16", "vcpu: true", "commitment[0].vcpu", "decimal in quotes"),
        ("vcpu: 16", "vcpu: -1", "commitment[0].vcpu", "decimal in quotes"),
        ("vcpu: 16", 'vcpu: "16.5555"', "commitment[0].vcpu", "at most 3 places"),
        ("vcpu: 16}", "vcpu: 16}\n  - {start: 2026-10-01, vcpu: 20}", "commitment[1].start", "after 2026-10-01"),
        ("vcpu: 16}", "vcpu: 16}\n  - {start: 2026-11-01, vcpu: 8}", "commitment[1].vcpu", "only grows"),
        ("vcpu: 16}", "vcpu: 16}\n  - {start: 2027-10-01, vcpu: 20}", "commitment[1].start", "before term.end"),
        ("- {start: 2026-10-01, vcpu", "- {start: 2026-10-02, vcpu", "commitment[0].start", "term.start"),
        ("organization: acme", "organization: Acme!", "organization", "a-z"),
        ("organization: acme", "organization: acme\norganization: evil", "line 3", "each key once"),
        ("organization: acme", "organization: acme\ntime_zone: Mars/Base", "time_zone", "IANA"),
        ("organization: acme", "organization: acme\nversion: 0", "version", "from 1"),
        ("organization: acme", "organization: acme\ngap_policy: full", "gap_policy", "not-billed"),
        ("name: Acme Ltd", "name: '\u0e01\u0e23'", "customer.name", "Latin, Greek, Cyrillic"),
        ("name: Acme Ltd", "name: 'a\\nb'", "", ""),
        ("name: Acme Ltd", 'name: "a\\nb"', "customer.name", "one line in"),
        ("currency: USD", "currency: &c USD\ncontracts: *c", "line 6", "no aliases"),
        ("on_demand: true", 'on_demand: true\ntax: {category: S, rate: "0"}', "tax.rate", "more than 0"),
        ("on_demand: true", 'on_demand: true\ntax: {category: AE, rate: "19"}', "tax.rate", '"0" for the others'),
        ("on_demand: true", 'on_demand: true\ntax: {category: S, rate: "101"}', "tax.rate", "at most 100"),
        ("on_demand: true", "on_demand: true\nprice: {book: b1, version: 1}", "price", "one of"),
        ('price_per_vcpu_year: "900.00"\n', "", "price", "one of"),
    ],
)
def test_a_wrong_contract_is_refused_by_field(before: str, after: str, where: str, allowed: str) -> None:
    text = contract_text().replace(before, after, 1)
    assert text != contract_text()
    if not where:
        parse_contract(text, "contract.yaml")  # the neighbour that is right
        return
    with pytest.raises(InvalidInput) as refused:
        parse_contract(text, "contract.yaml")
    found = [(finding.source, finding.where) for finding in refused.value.findings]
    assert ("contract.yaml", where) in found
    assert allowed in "\n".join(finding.allowed for finding in refused.value.findings if finding.where == where)


def test_every_finding_is_named_at_once() -> None:
    text = contract_text().replace('"900.00"', "900.0").replace("on_demand: true", "on_demand: yes!")
    with pytest.raises(InvalidInput) as refused:
        parse_contract(text, "contract.yaml")
    assert {finding.where for finding in refused.value.findings} == {"price_per_vcpu_year", "on_demand"}


@pytest.mark.parametrize(
    "text", ["", "[]", "- a", "12", "a: [", "? [a]\n: b", "1: 2", "!!python/name:os.system", "\0"]
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    for parse in (parse_contract, parse_licence, parse_price_book):
        with pytest.raises(InvalidInput):
            parse(text, "file.yaml")


def test_nested_beyond_measure_is_refused() -> None:
    with pytest.raises(InvalidInput):
        parse_contract("a: " + "[" * 100_000, "file.yaml")


@costly(200)
@given(
    text=st.one_of(
        st.text(max_size=200),
        st.builds(
            lambda text, at, inserted: text[:at] + inserted + text[at:],
            st.sampled_from([contract_text(), licence_text(), PRICES]),
            st.integers(0, 500),
            st.text(max_size=8),
        ),
        st.builds(
            lambda text, at, length: text[:at] + text[at + length :],
            st.sampled_from([contract_text(), licence_text(), PRICES]),
            st.integers(0, 500),
            st.integers(1, 40),
        ),
    )
)
def test_any_text_is_a_document_or_a_refusal(text: str) -> None:
    parsers: tuple[Callable[[str, str], object], ...] = (parse_contract, parse_licence, parse_price_book)
    for parse in parsers:
        with suppress(InvalidInput):
            parse(text, "fuzz.yaml")


def test_a_price_comes_from_the_book_by_the_first_day_of_the_term(small_office: Office) -> None:
    book = small_office.book
    book.add_price_book(PRICES, "prices.yaml", "test")
    for organization, start, price in (("acme", "2026-10-01", "900.00"), ("beta", "2027-01-01", "950.00")):
        text = contract_text(organization, term=(start, "2028-01-01")).replace(*FROM_BOOK)
        book.add_contract(text, "contract.yaml", "test")
        assert f"{book.contract(f'{organization}-2026').price_per_vcpu_year}" == price
    document = small_office.run.draft(ACME, "2026-10").document()
    assert document["contract"]["price_book"]["snapshot"] == PRICES


@pytest.mark.parametrize(
    ("contract", "where"),
    [
        (contract_text().replace(*FROM_BOOK), "price"),
        (contract_text().replace(FROM_BOOK[0], "price: {book: standard, version: 7}"), "price"),
    ],
)
def test_a_price_book_that_is_not_there(small_office: Office, contract: str, where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        small_office.book.add_contract(contract, "contract.yaml", "test")
    assert refused.value.findings[0].where == where
    assert small_office.book.contracts() == []


@pytest.mark.parametrize(
    ("currency", "term"), [("EUR", ("2026-10-01", "2027-10-01")), ("USD", ("2024-10-01", "2025-10-01"))]
)
def test_a_price_that_the_book_does_not_have(small_office: Office, currency: str, term: tuple[str, str]) -> None:
    small_office.book.add_price_book(PRICES, "prices.yaml", "test")
    text = contract_text(term=term).replace(*FROM_BOOK).replace("USD", currency)
    with pytest.raises(InvalidInput, match=r"price\.item"):
        small_office.book.add_contract(text, "contract.yaml", "test")


def test_price_book_versions_follow_one_another_and_never_change(small_office: Office) -> None:
    book = small_office.book
    book.add_price_book(PRICES, "prices.yaml", "test")
    book.add_price_book(PRICES, "prices.yaml", "test")  # the same again: nothing happens
    with pytest.raises(SnapshotConflict, match="a change is a new version"):
        book.add_price_book(PRICES.replace("900.00", "901.00"), "prices.yaml", "test")
    with pytest.raises(InvalidInput, match="allowed: 2, the next one"):
        book.add_price_book(PRICES.replace("version: 1", "version: 3"), "prices.yaml", "test")
    book.add_price_book(PRICES.replace("version: 1", "version: 2"), "prices.yaml", "test")
    assert book.price_book("standard").version == 2
    with pytest.raises(NotFound):
        book.price_book("other")
    with pytest.raises(InvalidInput, match=r"prices\[3\]"):
        parse_price_book(PRICES + PRICES.strip().splitlines()[-3] + "\n", "prices.yaml")


def test_terms_of_one_organization_do_not_overlap(small_office: Office) -> None:
    book = small_office.book
    book.add_contract(contract_text(), "a.yaml", "test")
    with pytest.raises(InvalidInput, match=r"no overlap with contract acme-2026.*an amendment, `version: 2`"):
        book.add_contract(contract_text(contract="other", term=("2027-09-30", "2028-01-01")), "b.yaml", "test")
    book.add_contract(contract_text(contract="next", term=("2027-10-01", "2028-01-01")), "b.yaml", "test")
    assert [known.contract.contract for known in book.contracts(ACME)] == ["acme-2026", "next"]


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("", "", None),
        ("name: Acme Ltd", "name: Acme Holding Ltd", None),
        ('"900.00"', '"800.00"', "price_per_vcpu_year"),
        ("on_demand: true", "on_demand: false", "on_demand"),
        ("end: 2027-10-01", "end: 2028-10-01", "term"),
        ("id: example-eu", "id: example-us", "legal_entity.id"),
        ("vcpu: 16}", "vcpu: 17}", "commitment"),
        ("start: 2026-12-01", "start: 2026-10-20", "commitment"),
    ],
)
def test_an_amendment_only_adds_commitment_to_come(
    small_office: Office, before: str, after: str, where: str | None
) -> None:
    small_office.book.add_contract(contract_text(), "a.yaml", "test")
    small_office.run.close(ACME, "2026-10")
    amended = contract_text(more="version: 2\n").replace(
        "vcpu: 16}\n", "vcpu: 16}\n  - {start: 2026-12-01, vcpu: 20}\n"
    )
    text = amended.replace(before, after, 1)
    if where is None:
        assert small_office.book.add_contract(text, "b.yaml", "test").version == 2
        return
    with pytest.raises(InvalidInput) as refused:
        small_office.book.add_contract(text, "b.yaml", "test")
    assert where in {finding.where for finding in refused.value.findings}
    assert small_office.book.contract("acme-2026").contract.version == 1


def test_a_contract_does_not_move_to_another_organization(small_office: Office) -> None:
    small_office.book.add_contract(contract_text(), "a.yaml", "test")
    stolen = contract_text("evil", contract="acme-2026", more="version: 2\n")
    with pytest.raises(InvalidInput, match="organization: found evil"):
        small_office.book.add_contract(stolen, "b.yaml", "test")
    assert small_office.book.contracts(OrganizationId("evil")) == []


@pytest.mark.parametrize(
    ("licence", "on_demand", "where"),
    [
        (licence_text(), False, None),
        (licence_text(vcpu=17), True, None),
        (licence_text(vcpu=17), False, "capacity"),
        (licence_text(valid=("2026-10-01", "2027-10-02")), False, "capacity"),
        (licence_text("beta").replace("beta-2026", "acme-2026"), True, "contract"),
        (licence_text().replace("acme-2026", "nothing"), True, "contract"),
        (licence_text(valid=("2026-10-01", "2026-09-01")), True, "valid.end"),
        (licence_text().replace("- {start: 2026-10-01", "- {start: 2026-11-01"), True, "capacity[0].start"),
        (licence_text(more="seats: 3\n"), True, "seats"),
    ],
)
def test_licences(small_office: Office, licence: str, on_demand: bool, where: str | None) -> None:
    book = small_office.book
    book.add_contract(contract_text(on_demand=on_demand), "contract.yaml", "test")
    if where is None:
        book.add_licence(licence, "licence.yaml", "test")
        assert book.capacity(ACME).points
        return
    with pytest.raises(InvalidInput) as refused:
        book.add_licence(licence, "licence.yaml", "test")
    assert where in {finding.where for finding in refused.value.findings}
    assert book.licences() == []


def test_every_field_says_what_it_is() -> None:
    from billing.contract import Contract
    from billing.licence import Licence
    from billing.prices import Price, PriceBook
    from kernel.settings import documented_fields

    for model in (Contract, Licence, PriceBook, Price):
        assert [name for name, description, _ in documented_fields(model) if not description] == []


@pytest.mark.parametrize("more", ["", 'tax: {category: S, rate: "19"}\n', "time_zone: Europe/Berlin\n"])
def test_the_content_means_what_the_text_means(more: str) -> None:
    text = contract_text(more=more).replace("vcpu: 16", 'vcpu: "16.5"')
    again = parse_content(render_content(text, "c.yaml"), "c.yaml", Contract)
    assert again == parse_contract(text, "c.yaml")
    assert again.commitment[0].milli_vcpu == 16_500
