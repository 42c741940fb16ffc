"""An issued invoice becomes one of Stripe's, once: found by its number, finalized when it sums to the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from billing.exports.stripe.client import StripeClient
from billing.exports.stripe.items import due_of, items_of
from kernel.crashpoints import crash_point
from kernel.errors import Conflict

PAGE = 100


def hand_over(client: StripeClient, document: Mapping[str, Any], sha256: str, customer: str, days: int) -> str:
    """The id of Stripe's invoice, finalized. `days` until it is due.

    Repeatable at any time, as idempotency keys last a day: what is there already is looked up first. Raises Refuse,
    Retry, and Conflict when Stripe's is of another document or does not sum to what is due (it then stays a draft).
    """
    number, items = document["number"], items_of(document)
    code = document["currency"]["code"].lower()
    found = _find(client, customer, number) or client.post(
        "/v1/invoices",
        {
            "auto_advance": "false",
            "collection_method": "send_invoice",
            "currency": code,
            "customer": customer,
            "days_until_due": str(days),
            "metadata[byoc_number]": number,
            "metadata[byoc_sha256]": sha256,
            "number": number,
            "pending_invoice_items_behavior": "exclude",
        },
        _key(sha256, customer, "invoice"),
    )
    crash_point("stripe.invoice-made")
    name = str(found["id"])
    if found["metadata"].get("byoc_sha256") != sha256:
        raise Conflict(f"{number}: Stripe's {name} is of another document")
    if found["status"] == "draft":
        there = {
            item["metadata"].get("byoc_line") for item in _pages(client, "/v1/invoiceitems", {"invoice": name})
        }
        for item in items:
            if item.line in there:
                continue
            form = {
                "amount": str(item.amount),
                "currency": code,
                "customer": customer,
                "description": item.description,
                "invoice": name,
                "metadata[byoc_line]": item.line,
                "period[end]": str(item.end_s),
                "period[start]": str(item.start_s),
            }
            client.post("/v1/invoiceitems", form, _key(sha256, name, item.line))
            crash_point("stripe.item-made")
        _check(client, name, document)
        client.post(f"/v1/invoices/{name}/finalize", {"auto_advance": "false"}, _key(sha256, name, "finalize"))
        crash_point("stripe.finalized")
    _check(client, name, document)
    return name


def _check(client: StripeClient, name: str, document: Mapping[str, Any]) -> None:
    total, due = client.get(f"/v1/invoices/{name}", {})["total"], due_of(document)
    if total != due:
        raise Conflict(f"{document['number']}: Stripe's {name} is {total} in minor units, due is {due}")


def _find(client: StripeClient, customer: str, number: str) -> dict[str, Any] | None:
    pages = _pages(client, "/v1/invoices", {"customer": customer})
    return next((each for each in pages if each["metadata"].get("byoc_number") == number), None)


def _pages(client: StripeClient, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        page = client.get(path, {**query, "limit": str(PAGE), **after})
        yield from page["data"]
        if not page["has_more"] or not page["data"]:
            return
        after = {"starting_after": page["data"][-1]["id"]}


def _key(sha256: str, scope: str, line: str) -> str:
    return f"byoc:{sha256[:32]}:{scope}:{line}"
