"""Usage that arrives after the final invoice: the same money as if it had been there, whatever the order."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.errors import Conflict
from kernel.money import Money, currency, total
from kernel.window import DAY_MS, month
from tests.billing.deals import ACME, Office, contract_text
from tests.databases import open_migrated
from tests.effort import costly

OCTOBER, NOVEMBER = month("2026-10"), month("2026-11")
USD = currency("USD")
GRADUATED = (
    '{kind: graduated, tiers: [{up_to: "10", unit: "2"}, {up_to: "20", unit: "3"}, {up_to: null, unit: "5"}]}'
)
VOLUME = '{kind: volume, tiers: [{up_to: "100", unit: "2"}, {up_to: null, unit: "1"}]}'
MONTH_SECONDS = 31 * DAY_MS / 1000


def start(office: Office, model: str, more: str = "") -> None:
    step = f"{{start: 2026-10-01, model: {model}}}"
    charge = f"charges:\n  - {{charge: calls, description: Calls, meter: calls, steps: [{step}]}}\n"
    office.book.add_contract(contract_text(vcpu=0, more=charge + more), "contract.yaml", "test")


def use(office: Office, october: int, november: int = 0) -> None:
    office.usage.meters["calls"] = {
        "main": {OCTOBER.start_ms: Fraction(october), NOVEMBER.start_ms: Fraction(november)}
    }


def billed(office: Office) -> Money:
    """The net sum of all documents."""
    documents = (one.document for one in office.run.invoices(ACME))
    return total((Money.parse(document["totals"]["net"], USD) for document in documents), USD)


def test_more_usage_is_on_the_next_invoice_with_its_own_service_period(office: Office) -> None:
    start(office, GRADUATED)
    use(office, 15)
    first = office.run.close(ACME, "2026-10").invoice
    assert first.gross == "35.00"
    use(office, 21)
    again = office.run.close(ACME, "2026-10")
    assert (again.invoice, again.credits, again.late) == (first, (), (first.number,))
    office.clock.step_wall(MONTH_SECONDS)
    closed = office.run.close(ACME, "2026-11")
    [line] = [line for line in closed.invoice.document["lines"] if line["amount"] != "0.00"]
    assert (line["kind"], line["amount"], line["corrects"]) == ("correction:charge:calls", "20.00", first.number)
    assert line["period"] == {"start": "2026-10-01T00:00:00.000Z", "end": "2026-11-01T00:00:00.000Z"}
    assert closed.late == (), "it is billed"
    assert office.run.close(ACME, "2026-11") == closed
    assert office.balance() == 0


def test_less_usage_is_a_credit_note_at_once(office: Office) -> None:
    start(office, GRADUATED)
    use(office, 21)
    first = office.run.close(ACME, "2026-10").invoice
    use(office, 15)
    [note] = office.run.close(ACME, "2026-10").credits
    assert (note.gross, note.document["credits"]) == ("-20.00", first.number)
    assert office.run.close(ACME, "2026-10").credits == (note,), "once, and told again"
    assert [one.kind for one in office.run.invoices(ACME)].count("credit-note") == 1
    assert office.receivables.standing(first.number).open == Money.parse("35.00", USD)


def test_a_credit_note_belongs_to_the_close_of_one_month(small_office: Office) -> None:
    """Whichever is made again: not to the one after, nor does what a person wrote belong to any."""
    office = small_office
    start(office, GRADUATED)
    use(office, 21)
    first = office.run.close(ACME, "2026-10").invoice
    use(office, 20)
    [october] = office.run.close(ACME, "2026-10").credits
    office.receivables.credit(first.number, {2: Money.parse("1.00", USD)}, "goodwill")
    office.clock.step_wall(MONTH_SECONDS)
    use(office, 19)
    [november] = office.run.close(ACME, "2026-11").credits
    assert october.number != november.number
    assert office.run.close(ACME, "2026-11").credits == (november,)
    assert office.run.close(ACME, "2026-10").credits == (october,)
    office.receivables.void(november.number, "wrong")
    assert november not in office.run.close(ACME, "2026-11").credits


def test_more_usage_that_is_cheaper_is_a_credit_note(office: Office) -> None:
    start(office, VOLUME)
    use(office, 100)
    office.run.close(ACME, "2026-10")
    use(office, 130)
    [note] = office.run.close(ACME, "2026-10").credits
    assert note.gross == "-70.00"


def test_the_prices_of_the_invoice_stay(small_office: Office) -> None:
    """An amendment that comes later does not change what a finished month costs."""
    start(small_office, GRADUATED)
    use(small_office, 15)
    small_office.run.close(ACME, "2026-10")
    stored = small_office.book.contract("acme-2026").snapshot.text
    amended = stored.replace('unit: "3"', 'unit: "9"').replace(
        "contract: acme-2026", "contract: acme-2026\nversion: 2"
    )
    small_office.book.add_contract(amended, "amendment.yaml", "test")
    use(small_office, 16)
    small_office.clock.step_wall(MONTH_SECONDS)
    closed = small_office.run.close(ACME, "2026-11")
    assert [line["amount"] for line in closed.invoice.document["lines"] if line.get("corrects")] == ["3.00"]


def test_a_minimum_that_was_filled_up_moves_with_the_usage(small_office: Office) -> None:
    start(small_office, GRADUATED, 'spend: {min: "50.00"}\n')
    use(small_office, 15)
    assert small_office.run.close(ACME, "2026-10").invoice.gross == "50.00"
    use(small_office, 21)
    assert small_office.run.close(ACME, "2026-10").credits == ()
    small_office.clock.step_wall(MONTH_SECONDS)
    lines = small_office.run.close(ACME, "2026-11").invoice.document["lines"]
    corrections = [(line["kind"], line["amount"]) for line in lines if line.get("corrects")]
    assert corrections == [("correction:charge:calls", "20.00"), ("correction:minimum-spend", "-15.00")]


def test_two_drafts_do_not_bill_one_correction_twice(small_office: Office) -> None:
    start(small_office, GRADUATED)
    use(small_office, 15)
    small_office.run.close(ACME, "2026-10")
    use(small_office, 21)
    small_office.clock.step_wall(2 * MONTH_SECONDS)
    november, december = (small_office.run.draft(ACME, name) for name in ("2026-11", "2026-12"))
    assert [len(draft.corrections) for draft in (november, december)] == [1, 1]
    small_office.run.finalize(november)
    small_office.clock.step_wall(MONTH_SECONDS)
    with pytest.raises(Conflict, match="corrected meanwhile"):
        small_office.run.finalize(december)


def test_a_threshold_is_invoiced_in_mid_period_and_credited_on_the_final_one(office: Office) -> None:
    start(office, '{kind: per-unit, unit: "1"}', 'threshold: "200.00"\ntax: {category: S, rate: "20"}\n')
    office.clock.step_wall(-20 * DAY_MS / 1000)
    use(office, 199)
    assert office.run.threshold(ACME, "2026-10") is None
    use(office, 200)
    first = office.run.threshold(ACME, "2026-10")
    assert first
    assert (first.kind, first.period, first.gross) == ("threshold", "2026-10.1", "240.00")
    assert office.run.threshold(ACME, "2026-10") is None, "it is billed"
    use(office, 431)
    second = office.run.threshold(ACME, "2026-10")
    assert second
    assert second.gross == "277.20"
    office.clock.step_wall(20 * DAY_MS / 1000)
    use(office, 440)
    final = office.run.close(ACME, "2026-10").invoice
    assert final.document["totals"] == {"net": "9.00", "tax": "1.80", "gross": "10.80"}
    assert billed(office) == Money.parse("440.00", USD)
    assert office.run.threshold(ACME, "2026-10") is None
    use(office, 450)
    office.clock.step_wall(MONTH_SECONDS)
    office.run.close(ACME, "2026-11")
    assert billed(office) == Money.parse("450.00", USD), "the credit of the thresholds is no usage"
    assert office.balance() == 0


def test_what_was_credited_by_hand_is_not_given_back_twice(small_office: Office) -> None:
    start(small_office, '{kind: per-unit, unit: "1"}')
    use(small_office, 100)
    invoice = small_office.run.close(ACME, "2026-10").invoice
    small_office.receivables.credit(invoice.number, {2: Money.parse("90.00", USD)}, "goodwill")
    use(small_office, 70)
    [note] = small_office.run.close(ACME, "2026-10").credits
    assert note.gross == "-10.00", "thirty less, of which only ten were left"
    use(small_office, 0)
    assert small_office.run.close(ACME, "2026-10").credits == (note,)
    assert billed(small_office) == Money.parse("0.00", USD)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> object:
    def make() -> Office:
        path = tmp_path_factory.mktemp("late") / "byoc.sqlite"
        return Office(open_migrated(path))

    return make


@costly(25, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(
    seen=st.lists(st.integers(0, 250), min_size=1, max_size=4),
    model=st.sampled_from([GRADUATED, VOLUME]),
    data=st.data(),
)
def test_late_equals_on_time_in_every_order(
    seen: list[int], model: str, data: st.DataObject, fresh: object
) -> None:
    """However October's usage became known, all documents together cost what its last figure costs."""
    assert callable(fresh)
    office = fresh()
    start(office, model)
    use(office, seen[0])
    office.run.close(ACME, "2026-10")
    for figure in seen[1:]:
        use(office, figure)
        if data.draw(st.booleans()):
            office.run.close(ACME, "2026-10")
    office.clock.step_wall(MONTH_SECONDS)
    office.run.close(ACME, "2026-11")
    on_time = fresh()
    start(on_time, model)
    use(on_time, seen[-1])
    on_time.run.close(ACME, "2026-10")
    assert billed(office) == billed(on_time)
    assert office.balance() == 0
    for one in office.run.invoices(ACME):
        if one.kind == "credit-note":
            original = office.run.invoice(one.document["credits"])
            assert not office.receivables.standing(original.number).open < -Money.parse(original.gross, USD)
    office.database.close()
    on_time.database.close()
