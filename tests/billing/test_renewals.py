"""Contracts that go on by themselves: renewed once, prices of charges risen exactly, commitments invoiced."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fractions import Fraction

import pytest
import yaml
from prometheus_client import CollectorRegistry

from billing.settings import TermsSettings
from billing.terms_worker import ACTOR, TermsWorker
from kernel.clock import VirtualClock
from kernel.errors import Conflict, InvalidInput
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text, licence_text

RENEWAL = 'renewal: {years: 1, notice_days: 60, uplift_percent: "3.3"}\n'
CALLS = """charges:
  - charge: calls
    description: Calls
    meter: calls
    steps:
      - start: 2026-10-01
        model: {kind: graduated, tiers: [{up_to: "10", unit: "0.07", flat: "1.00"}, {up_to: null, unit: "0.05"}]}
"""
AUGUST_3, OCTOBER_1 = datetime(2027, 8, 3, tzinfo=UTC), datetime(2027, 10, 1, tzinfo=UTC)


def at(office: Office, moment: datetime) -> Office:
    return Office(office.database, office.usage, VirtualClock(moment))


def worker(office: Office, *, renew: bool = True, commitments: bool = True) -> TermsWorker:
    settings = TermsSettings(renew=renew, commitments=commitments)
    return TermsWorker(office.book, office.run, settings, CollectorRegistry())


def actions(office: Office) -> list[tuple[str, str]]:
    return [(one.action, one.subject) for one in office.audit.events() if one.actor in {ACTOR, "billing"}]


def signed(office: Office, more: str = RENEWAL + CALLS) -> Office:
    office.book.add_contract(contract_text(more=more), "c.yaml", "test")
    office.book.add_licence(licence_text(), "l.yaml", "test")
    return office


def test_nothing_happens_by_itself_unless_asked_for() -> None:
    assert (TermsSettings().renew, TermsSettings().commitments) == (False, False)


def test_what_is_due_is_renewed_once_and_audited(office: Office) -> None:
    signed(office)
    worker(at(office, datetime(2027, 8, 2, 23, 59, tzinfo=UTC))).look()
    assert [name for name, _ in actions(office)] == ["invoice.finalize"], "notice may still be given"
    due = at(office, AUGUST_3)
    for _ in range(2):
        worker(due).look()
    assert actions(office)[1:] == [("contract.add", "acme-2026-r2"), ("licence.add", "acme-licence-r2")]
    assert office.book.contract("acme-2026-r2").contract.renews == "acme-2026"


def test_two_processes_renew_and_invoice_once(office: Office) -> None:
    """Both look at the same moment, as often as it takes; the database decides."""
    signed(office)
    due = [at(office, AUGUST_3) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: worker(one).look(), due))
    done = actions(office)
    assert sorted(done) == [
        ("contract.add", "acme-2026-r2"),
        ("invoice.finalize", "EXAMPLE-EU-2027-000001"),
        ("licence.add", "acme-licence-r2"),
    ]
    assert office.balance() == 0


def test_one_that_is_refused_holds_up_no_other(office: Office) -> None:
    """Its next id is taken by a contract of other words."""
    signed(office)
    other = contract_text("other", more=RENEWAL)
    office.book.add_contract(other, "c.yaml", "test")
    office.book.add_contract(contract_text("third", contract="acme-2026-r2"), "c.yaml", "test")
    worker(at(office, AUGUST_3), commitments=False).look()
    assert actions(office) == [("contract.add", "other-2026-r2")]


def test_notice_that_comes_in_time_is_kept(small_office: Office) -> None:
    """Given on the last day, looked at later: also when it is stored between the look and the renewal."""
    signed(small_office)
    noticed = RENEWAL.replace("}", ", notice_given: 2027-08-02}")
    small_office.book.add_contract(contract_text(more=f"version: 2\n{noticed}{CALLS}"), "c.yaml", "test")
    late = at(small_office, AUGUST_3)
    assert late.book.renewals_due() == []
    with pytest.raises(Conflict, match="notice was given"):
        late.book.renew("acme-2026", ACTOR)


def test_a_renewal_is_stored_whole_or_not_at_all(small_office: Office) -> None:
    """Else a process that died between the two would leave a contract without a licence, and nobody to see it."""
    signed(small_office)
    small_office.book.add_contract(contract_text("third"), "c.yaml", "test")
    taken = licence_text("third").replace("third-licence", "acme-licence-r2")
    small_office.book.add_licence(taken, "l.yaml", "test")
    with pytest.raises(Conflict):
        at(small_office, AUGUST_3).book.renew("acme-2026", ACTOR)
    assert [one.contract.contract for one in small_office.book.contracts(ACME)] == ["acme-2026"]


def test_prices_of_charges_rise_exactly_and_say_so(small_office: Office) -> None:
    """25 calls: 1 + 10 * 0.07 + 15 * 0.05 = 2.45; then times 1.033, and 1.033 again: 2.61436805, rounded once."""
    office = signed(small_office)
    for moment in (AUGUST_3, datetime(2028, 8, 3, tzinfo=UTC)):
        worker(at(office, moment), commitments=False).look()
    for name, amount, factor in (
        ("2027-03", "2.45", Fraction(1)),
        ("2028-03", "2.53", Fraction(1033, 1000)),
        ("2029-03", "2.61", Fraction(1033, 1000) ** 2),
    ):
        office.usage.meters["calls"] = {"main": {month(name).start_ms: Fraction(25)}}
        document = at(office, AUGUST_3).run.draft(ACME, name).document()
        [line] = [one for one in document["lines"] if one["kind"] == "charge:calls"]
        derivation, renewals = line["derivation"], int(name[:4]) - 2027
        assert line["amount"] == amount
        assert Fraction(derivation["unrounded"]["exact"]) == Fraction("2.45") * factor
        rates = {Fraction(one["rate"]["exact"]) for one in derivation["parts"]}
        assert {Fraction("0.07") * factor, Fraction("0.05") * factor} < rates
        risen = [fact["value"] for fact in derivation["facts"] if fact["name"] == "uplifts"]
        assert risen == ([", ".join(["3.3 %"] * renewals)] if renewals else [])
        assert all(("since its renewals" in one["rate"]["basis"]) == (renewals > 0) for one in derivation["parts"])


def test_a_price_agreed_for_the_new_term_is_not_raised(small_office: Office) -> None:
    """A ramp: 0.07 until it is 0.08 from the first day of the next term, and 0.09 in its middle."""
    step = "      - {{start: {}, model: {{kind: per-unit, unit: '{}'}}}}\n"
    ramp = CALLS + step.format("2027-10-01", "0.08") + step.format("2028-04-01", "0.09")
    signed(small_office, RENEWAL + ramp)
    worker(at(small_office, AUGUST_3), commitments=False).look()
    renewed = yaml.safe_load(small_office.book.contract("acme-2026-r2").snapshot.text)
    assert all("uplifts" not in one for one in renewed["charges"][0]["steps"])
    later = CALLS + step.format("2028-04-01", "0.09")
    small_office.book.add_contract(contract_text("other", more=RENEWAL + later), "c.yaml", "test")
    worker(at(small_office, AUGUST_3), commitments=False).look()
    steps = yaml.safe_load(small_office.book.contract("other-2026-r2").snapshot.text)["charges"][0]["steps"]
    assert [one.get("uplifts") for one in steps] == [["3.3"], None]


@pytest.mark.parametrize("uplift", ["-1", "101"])
def test_an_uplift_out_of_reason_is_refused(small_office: Office, uplift: str) -> None:
    wrong = CALLS.replace("start: 2026-10-01\n", f'start: 2026-10-01\n        uplifts: ["{uplift}"]\n')
    with pytest.raises(InvalidInput, match=r"charges\[0\]\.steps\[0\]\.uplifts"):
        small_office.book.add_contract(contract_text(more=wrong), "c.yaml", "test")


def test_commitments_are_invoiced_when_they_begin(office: Office) -> None:
    """Those of running contracts, each once; one that a person made void is not issued again by itself."""
    text = contract_text(more="").replace("vcpu: 16}\n", "vcpu: 16}\n  - {start: 2027-01-01, vcpu: 24}\n")
    office.book.add_contract(text, "c.yaml", "test")
    office.book.add_contract(contract_text("ended", term=("2025-10-01", "2026-10-01")), "c.yaml", "test")
    november = at(office, datetime(2026, 11, 3, tzinfo=UTC))
    for _ in range(2):
        worker(november, renew=False).look()
    assert [(one.contract, one.period) for one in office.run.invoices()] == [("acme-2026", "2026-10-01")]
    november.receivables.void("EXAMPLE-EU-2026-000001", "wrong")
    worker(at(office, datetime(2026, 12, 31, 23, tzinfo=UTC)), renew=False).look()
    worker(at(office, datetime(2027, 1, 1, tzinfo=UTC)), renew=False).look()
    assert [one.period for one in office.run.invoices()] == ["2026-10-01", "2027-01-01"]
    assert office.balance() == 0
