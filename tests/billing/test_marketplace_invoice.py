"""What AWS Marketplace did not take is billed by the invoice: once, and at the same price."""

from __future__ import annotations

from typing import Any

import pytest

from billing.draft import CREDIT_NOTE
from billing.errors import GraceNotOver, QuantityUnknown
from billing.invoices import Invoice
from billing.life import Phase
from billing.marketplace.told import Event
from billing.prepared import prepare
from kernel.clock import to_ms
from kernel.errors import ByocError, Conflict, InvalidInput
from kernel.window import HOUR_MS, month
from tests.billing.deals import ACME, NOVEMBER_3, Office, contract_text
from tests.billing.marketplace_emulator import PRODUCT
from tests.billing.marketplace_world import ACCOUNT, SOLD, Shop, go_to, sold_contract

NOON = to_ms(NOVEMBER_3.replace(minute=0))
NOVEMBER, DECEMBER = month("2026-11"), month("2026-12")


@pytest.fixture
def shop(small_office: Office) -> Shop:
    shop = Shop(small_office)
    shop.office.book.add_contract(sold_contract(), "contract.yaml", "test")
    return shop


def calls(invoice: Invoice, kind: str = "charge:calls") -> list[dict[str, Any]]:
    return [line for line in invoice.document["lines"] if line["kind"] == kind]


def close_november(shop: Shop) -> Invoice:
    go_to(shop.office.clock, DECEMBER.start_ms + 48 * HOUR_MS)
    return shop.office.run.close(ACME, "2026-11").invoice


def test_the_rest_is_billed_and_what_aws_took_is_stated(shop: Shop) -> None:
    """Of 10.5 and 3.75 AWS takes 10 and 4. A quarter is left, and the hour that was too old for it."""
    shop.use(NOON - 9 * HOUR_MS, "100")
    shop.use(NOON - 2 * HOUR_MS, "10.5")
    shop.use(NOON - HOUR_MS, "3.75")
    shop.send()
    assert shop.taken() == 14
    invoice = close_november(shop)
    [stated], [billed] = calls(invoice, "marketplace:calls"), calls(invoice)
    assert (stated["informational"], stated["amount"], stated["derivation"]["quantity"]["exact"]) == (
        True,
        "0.00",
        "14",
    )
    assert [(fact["name"], fact["shown"]) for fact in stated["derivation"]["facts"]] == [
        ("product", PRODUCT),
        ("account", ACCOUNT),
        ("dimension", "calls"),
        ("told", "14 call"),
        ("confirmed", "14 call"),
    ]
    assert billed["description"] == "Calls (what AWS Marketplace did not take)"
    assert (billed["derivation"]["quantity"]["exact"], billed["amount"]) == ("401/4", "10.03")
    assert [
        (part["label"], part["quantity"]["exact"], part["amount"]["exact"])
        for part in billed["derivation"]["parts"]
    ] == [
        ("all units", "457/4", "457/40"),
        ("billed by AWS Marketplace", "-14", "-7/5"),
    ]
    [told] = invoice.document["usage"]["marketplace"]
    assert {name: told[name] for name in ("charge", "product", "account", "dimension", "rows")} == {
        "charge": "calls",
        "product": PRODUCT,
        "account": ACCOUNT,
        "dimension": "calls",
        "rows": "15",
    }


def test_an_organization_that_was_told_nothing_of_pays_all_of_it(shop: Shop) -> None:
    shop.use(NOON, "12.5")
    invoice = close_november(shop)
    assert calls(invoice)[0]["amount"] == "1.25"
    assert calls(invoice, "marketplace:calls")[0]["derivation"]["quantity"]["exact"] == "0"


def test_what_may_have_been_taken_is_not_billed_until_somebody_knows(shop: Shop) -> None:
    """The answer is lost until the hour is too old. Then AWS says that it had nothing."""
    shop.use(NOON - HOUR_MS, "10.5")
    shop.client.refused = 1
    with pytest.raises(ByocError):
        shop.send()
    invoice = close_november(shop)
    [stated], [billed] = calls(invoice, "marketplace:calls"), calls(invoice)
    assert (billed["derivation"]["quantity"]["exact"], billed["amount"]) == ("1/2", "0.05")
    assert stated["notes"] == [
        (
            "What AWS Marketplace took of 1 hour is not known yet: until it is, 10 call count as billed by it "
            "and are not billed here."
        )
    ]
    assert {fact["name"]: fact["value"] for fact in stated["derivation"]["facts"]}["unknown"] == "10"
    shop.resolve(NOON - HOUR_MS, 0)
    go_to(shop.office.clock, month("2027-01").start_ms + 48 * HOUR_MS)
    closed = shop.office.run.close(ACME, "2026-12")
    [corrected] = calls(closed.invoice, "correction:charge:calls")
    assert (corrected["amount"], corrected["corrects"]) == ("1.00", invoice.number)
    assert closed.invoice.document["corrections"][0]["marketplace"][0]["rows"] == "11"


def test_what_aws_had_from_elsewhere_is_credited_once_it_is_known(shop: Shop) -> None:
    """Another program told AWS 12 of the hour, which first was misread; 95 came too late for AWS."""
    shop.use(NOON - HOUR_MS, "5")
    shop.use(NOON - 9 * HOUR_MS, "95")
    shop.emulator.metered[ACCOUNT, "calls", (NOON - HOUR_MS) // 1000] = 12
    shop.send()
    with pytest.raises(QuantityUnknown, match=r"`byoc marketplace resolve acme calls 2026-11-03T08:00:00\.000Z"):
        close_november(shop)
    shop.resolve(NOON - HOUR_MS, 5)
    invoice = close_november(shop)
    assert calls(invoice)[0]["amount"] == "9.50"
    shop.resolve(NOON - HOUR_MS, 12)
    [note] = shop.office.run.credit_late("acme-2026")
    assert (note.kind, note.gross, calls(note, "correction:charge:calls")[0]["amount"]) == (
        CREDIT_NOTE,
        "-0.70",
        "-0.70",
    )
    assert shop.office.run.credit_late("acme-2026") == ()


def test_what_aws_took_too_much_is_for_aws_to_give_back(shop: Shop) -> None:
    """Usage turns out to be less than what was told. A refund of AWS makes the rest of the month right again."""
    shop.use(NOON - HOUR_MS, "10")
    shop.send()
    shop.use(NOON - HOUR_MS, "7.5")
    shop.use(NOON - 9 * HOUR_MS, "1")
    invoice = close_november(shop)
    assert calls(invoice)[0]["amount"] == "0.00"
    assert calls(invoice, "marketplace:calls")[0]["notes"] == [
        "AWS Marketplace has billed 1.5 call more than was used: it gives that back, and no invoice does."
    ]
    shop.resolve(NOON - HOUR_MS, 8)
    go_to(shop.office.clock, month("2027-01").start_ms + 48 * HOUR_MS)
    closed = shop.office.run.close(ACME, "2026-12")
    [corrected] = calls(closed.invoice, "correction:charge:calls")
    assert corrected["amount"] == "0.05"


def test_usage_that_becomes_known_later_is_billed_as_other_usage_is(shop: Shop) -> None:
    shop.use(NOON - HOUR_MS, "10")
    shop.send()
    invoice = close_november(shop)
    assert calls(invoice)[0]["amount"] == "0.00"
    shop.use(NOON - HOUR_MS, "15")
    go_to(shop.office.clock, month("2027-01").start_ms + 48 * HOUR_MS)
    [corrected] = calls(shop.office.run.close(ACME, "2026-12").invoice, "correction:charge:calls")
    assert (corrected["amount"], corrected["corrects"]) == ("0.50", invoice.number)
    assert corrected["derivation"]["quantity"]["exact"] == "5"


def test_an_answer_that_comes_between_draft_and_number_asks_for_a_new_draft(shop: Shop) -> None:
    shop.use(NOON - HOUR_MS, "10")
    shop.client.refused = 1
    with pytest.raises(ByocError):
        shop.send()
    go_to(shop.office.clock, DECEMBER.start_ms + 48 * HOUR_MS)
    draft = shop.office.run.draft(ACME, "2026-11")
    assert prepare(draft).told[0][2] == 10
    shop.log.note({NOON - HOUR_MS: (Event.NOT_SUBSCRIBED, "")})
    with pytest.raises(Conflict, match="more is known by now"):
        shop.office.run.finalize(draft)
    assert calls(shop.office.run.finalize(shop.office.run.draft(ACME, "2026-11")))[0]["amount"] == "1.00"


def test_a_month_can_not_be_final_while_aws_takes_hours_of_it(shop: Shop) -> None:
    shop.use(NOON, "1")
    go_to(shop.office.clock, DECEMBER.start_ms + 6 * HOUR_MS - 1)
    assert shop.office.run.phase(ACME, "2026-11") is Phase.GRACE
    with pytest.raises(GraceNotOver):
        shop.office.run.close(ACME, "2026-11")


def test_nothing_of_a_month_that_was_billed_is_sent_by_a_clock_that_went_back(shop: Shop) -> None:
    last = DECEMBER.start_ms - HOUR_MS
    shop.use(last, "3")
    shop.use(last - HOUR_MS, "4")
    go_to(shop.office.clock, DECEMBER.start_ms)
    shop.log.plan([])
    invoice = close_november(shop)
    assert calls(invoice)[0]["amount"] == "0.70"
    go_to(shop.office.clock, DECEMBER.start_ms + HOUR_MS)
    shop.send()
    assert (shop.hours().keys() & {last, last - HOUR_MS}, shop.taken()) == (set(), 0)


def test_the_same_draft_twice_whatever_is_sent_of_the_next_month(shop: Shop) -> None:
    """An approval is of bytes: what AWS is told of December leaves November's as they are."""
    shop.use(NOON - HOUR_MS, "10")
    shop.send()
    go_to(shop.office.clock, DECEMBER.start_ms + 2 * HOUR_MS)
    before = shop.office.run.draft(ACME, "2026-11").json()
    shop.use(DECEMBER.start_ms, "3")
    go_to(shop.office.clock, DECEMBER.start_ms + 12 * HOUR_MS)
    shop.use(DECEMBER.start_ms + 11 * HOUR_MS, "3")
    shop.send()
    assert shop.taken() > 10
    assert shop.office.run.draft(ACME, "2026-11").json() == before


REFUSED = (
    ("where", "change", "more", "allowed"),
    [
        ("charges[0].group_by", ("meter: calls", "meter: calls\n    group_by: cluster"), "", "all groups together"),
        (
            "charges[0].steps[0].model.kind",
            ('{kind: per-unit, unit: "0.10"}', '{kind: volume, tiers: [{up_to: null, unit: "0.10"}]}'),
            "",
            "a model of kind per-unit",
        ),
        ("charges[0].marketplace.account", ('"123456789012"', "acme"), "", "the digits"),
        ("charges[0].marketplace.product", ("prod-1", '"prod 1"'), "", "a product code"),
        ("charges[0].marketplace.dimension", ("dimension: calls", 'dimension: "a b"'), "", "no spaces"),
        ("threshold", ("", ""), 'threshold: "10.00"\n', "none beside"),
        ("spend", ("", ""), 'spend: {min: "10.00"}\n', "none beside"),
        ("spend_commitment", ("", ""), 'spend_commitment: {amount: "10.00", every: month}\n', "none beside"),
    ],
)


@pytest.mark.parametrize(*REFUSED)
def test_what_can_not_be_sold_so_is_refused(
    small_office: Office, where: str, change: tuple[str, str], more: str, allowed: str
) -> None:
    text = sold_contract(more, SOLD.replace(*change) if change[0] else SOLD)
    with pytest.raises(InvalidInput) as refused:
        small_office.book.add_contract(text, "contract.yaml", "test")
    assert [(one.where, allowed in one.allowed) for one in refused.value.findings] == [(where, True)]


def test_hours_that_aws_may_still_take_are_waited_for(small_office: Office) -> None:
    with pytest.raises(InvalidInput, match=r"grace_hours: found 5; allowed: at least 6"):
        small_office.book.add_contract(sold_contract().replace("hours: 48", "hours: 5"), "contract.yaml", "test")


def test_one_subscription_for_one_charge(small_office: Office) -> None:
    second = SOLD.partition("\n")[2].replace("charge: calls", "charge: more").replace("meter: calls", "meter: more")
    with pytest.raises(InvalidInput, match=r"charges\[1\]\.marketplace.*each subscription once"):
        small_office.book.add_contract(sold_contract(second), "contract.yaml", "test")
    small_office.book.add_contract(sold_contract(), "contract.yaml", "test")
    beside = contract_text(
        contract="other", vcpu=0, on_demand=False, more=SOLD.replace("meter: calls", "meter: more")
    )
    with pytest.raises(InvalidInput, match="that contract acme-2026 does not have"):
        small_office.book.add_contract(beside, "contract.yaml", "test")


def test_an_amendment_may_begin_to_sell_and_not_change_where(small_office: Office) -> None:
    unsold = SOLD.replace('    marketplace: {product: prod-1, account: "123456789012", dimension: calls}\n', "")
    small_office.book.add_contract(sold_contract(charges=unsold), "contract.yaml", "test")
    small_office.book.add_contract("version: 2\n" + sold_contract(), "contract.yaml", "test")
    for charges in (unsold, SOLD.replace("prod-1", "prod-2"), ""):
        with pytest.raises(InvalidInput, match="it says what AWS Marketplace has billed"):
            small_office.book.add_contract("version: 3\n" + sold_contract(charges=charges), "contract.yaml", "test")


def test_a_price_book_gives_a_linear_price_or_none(small_office: Office) -> None:
    """Known only once the book is read."""
    book = (
        "price_book: calls\nversion: 1\nmodels:\n  - item: calls\n    currency: USD\n    start: 2026-01-01\n"
        '    model: {kind: package, size: "10", price: "1"}\n'
    )
    small_office.book.add_price_book(book, "book.yaml", "test")
    named = SOLD.replace('model: {kind: per-unit, unit: "0.10"}', "price: {book: calls, version: 1, item: calls}")
    with pytest.raises(InvalidInput, match=r"steps\[0\]\.price\.item: found package; allowed: a model of"):
        small_office.book.add_contract(sold_contract(charges=named), "contract.yaml", "test")
