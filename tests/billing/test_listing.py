"""`byoc invoice list` and `price simulate`: states, months that wait, and the difference to what was billed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from billing.contract import parse_contract
from billing.listing import unbilled_months
from kernel.clock import to_ms
from tests.billing.deals import contract_text
from tests.billing.test_cli import TERM, Desk

COMMITMENT, USAGE = "EXAMPLE-EU-2026-000001", "EXAMPLE-EU-2026-000002"
TAXED = 'tax: {category: S, rate: "19"}\n'


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """October is final, 1.03 of overage; it is 3 November."""
    desk = Desk(tmp_path)
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=TERM, more=TAXED)))
    desk.seal_term(above=True)
    desk.say("invoice", "finalize", "acme", "2026-10")
    return desk


def listed(desk: Desk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(desk.say("invoice", "list", "--json"))
    return found


def states(desk: Desk) -> dict[str, str]:
    return {one["number"]: one["state"] for one in listed(desk)["documents"]}


def test_each_document_is_listed_with_its_state_and_each_month_without_one(desk: Desk) -> None:
    assert [line.split() for line in desk.say("invoice", "list").splitlines()] == [
        ["number", "organization", "kind", "period", "state", "gross", "open", "due"],
        [COMMITMENT, "acme", "commitment", "2026-10-30", "final", "17136.00", "USD", "17136.00", "2026-12-03"],
        [USAGE, "acme", "usage", "2026-10", "final", "1.23", "USD", "1.23", "2026-12-03"],
        ["-", "acme", "usage", "2026-11", "open", "-", "-", "-"],
    ]
    desk.say("invoice", "send", USAGE, "--to", "ap@example.com")
    assert states(desk)[USAGE] == "sent"
    desk.say("invoice", "pay", USAGE, "1.23", "--reference", "w1")
    assert states(desk)[USAGE] == "paid"
    desk.say("invoice", "credit", COMMITMENT, "--line", "1=14400.00", "--reason", "goodwill")
    assert states(desk) == {COMMITMENT: "credited", USAGE: "paid", "EXAMPLE-EU-2026-CN000001": "final"}
    desk.say("invoice", "void", "EXAMPLE-EU-2026-CN000001", "--reason", "wrong")
    assert states(desk)[COMMITMENT] == "final"
    desk.say("invoice", "void", COMMITMENT, "--reason", "wrong")
    [commitment, *_] = listed(desk)["documents"]
    assert (commitment["state"], commitment["open"], commitment["due_date"]) == ("void", "0.00", "2026-12-03")


def test_what_was_paid_in_part_and_credited_for_the_rest_is_paid(desk: Desk) -> None:
    desk.say("invoice", "pay", USAGE, "0.23", "--reference", "w1")
    desk.say("invoice", "credit", USAGE, "--line", "2=0.84", "--reason", "outage")
    [_, usage, _] = listed(desk)["documents"]
    assert (usage["state"], usage["credited"], usage["open"]) == ("paid", "1.00", "0.00")


def test_a_month_whose_invoice_is_void_waits_for_another(desk: Desk) -> None:
    desk.say("invoice", "void", USAGE, "--reason", "wrong")
    assert [(one["month"], one["state"]) for one in listed(desk)["months"]] == [
        ("2026-10", "due"),
        ("2026-11", "open"),
    ]


def test_a_void_commitment_is_not_told_among_those_of_the_month(desk: Desk) -> None:
    desk.say("invoice", "void", COMMITMENT, "--reason", "wrong")
    said = desk.say("invoice", "finalize", "acme", "2026-10")  # issues it again
    assert [line.split()[0] for line in said.splitlines()] == ["EXAMPLE-EU-2026-000003", USAGE]


def test_months_go_from_the_first_of_the_term_to_the_last_that_has_begun() -> None:
    text = contract_text(term=("2026-10-15", "2027-01-02"), more="time_zone: Asia/Kolkata\n")
    contract = parse_contract(text, "c.yaml")

    def found(*moment: int) -> list[tuple[str, str]]:
        now_ms = to_ms(datetime(*moment, tzinfo=UTC))  # type: ignore[arg-type, misc]
        return [(one.month, one.phase.value) for one in unbilled_months(contract, {"2026-11"}, now_ms)]

    assert found(2026, 10, 14, 18, 29) == []
    assert found(2026, 10, 14, 18, 30) == [("2026-10", "open")]
    assert found(2026, 11, 1) == [("2026-10", "grace")]
    assert found(2028, 1, 1) == [("2026-10", "due"), ("2026-12", "due"), ("2027-01", "due")]


def test_another_contract_is_compared_with_what_was_billed(desk: Desk) -> None:
    dearer = contract_text(term=TERM, more=TAXED).replace("900.00", "1800.00")
    words = ("price", "simulate", "acme", "2026-10", "--as", desk.file("dearer.yaml", dearer), "--json")
    assert [list(row.values()) for row in json.loads(desk.say(*words))] == [
        ["overage", "1.03 USD", "1.03 USD", "2.05 USD", "1.02 USD"],
        ["net", "1.03 USD", "1.03 USD", "2.05 USD", "1.02 USD"],
        ["tax", "0.20 USD", "0.20 USD", "0.39 USD", "0.19 USD"],
        ["gross", "1.23 USD", "1.23 USD", "2.44 USD", "1.21 USD"],
    ]
    desk.seal_term(above=False)  # later usage: what was billed stays, until it is credited
    [overage, *_] = json.loads(desk.say(*words))
    assert (overage["billed"], overage["now"], overage["difference"]) == ("1.03 USD", "0.00 USD", "-1.03 USD")
    desk.say("invoice", "finalize", "acme", "2026-10")
    assert json.loads(desk.say(*words))[0]["billed"] == "0.00 USD"


def test_amounts_of_another_currency_have_no_difference(desk: Desk) -> None:
    other = desk.file("other.yaml", contract_text(term=TERM).replace("currency: USD", "currency: JPY"))
    said = desk.say("price", "simulate", "acme", "2026-10", "--as", other).splitlines()
    assert said[-1].split() == ["gross", "1.23", "USD", "1.23", "USD", "1", "JPY", "-"]
