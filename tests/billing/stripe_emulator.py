"""A small, strict stand-in for the part of Stripe that a hand-over calls, written by us from Stripe's documents.

localstripe has no idempotency keys and no finalize, stripe-mock checks shapes alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "sk_test_only_for_tests"
# docs.stripe.com/api: invoices/create, invoiceitems/create, invoices/finalize
FIELDS = {
    "/v1/invoices": {
        "auto_advance",
        "collection_method",
        "currency",
        "customer",
        "days_until_due",
        "metadata[byoc_number]",
        "metadata[byoc_sha256]",
        "number",
        "pending_invoice_items_behavior",
    },
    "/v1/invoiceitems": {
        "amount",
        "currency",
        "customer",
        "description",
        "invoice",
        "metadata[byoc_line]",
        "period[end]",
        "period[start]",
    },
    "finalize": {"auto_advance"},
}


class Refused(Exception):
    """An error of the API."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Emulator:
    """Invoices and items by id; answers by idempotency key."""

    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[str, dict[str, str], dict[str, Any] | Refused]] = field(default_factory=dict)
    lost_answers: int = 0  # of calls that were served
    failures: list[Refused] = field(default_factory=list)  # what the next calls get, before keys are looked at
    breaks: list[bool] = field(default_factory=list)  # the next POSTs get a 500, and were acted upon or not
    surcharge: int = 0  # what totals are wrong by

    def forget_keys(self) -> None:
        """A day later: "keys can be removed after they're at least 24 hours old" (docs.stripe.com/api)."""
        self.answers.clear()

    def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        if path == "/v1/invoices":
            found = [each for each in self.invoices.values() if each["customer"] == query["customer"]][::-1]
        elif path == "/v1/invoiceitems":
            found = [each for each in self.items if each["invoice"] == query["invoice"]]
        else:
            return self._totalled(path.rsplit("/", 1)[1])
        # Lists have at most 100 and go on after an id (docs.stripe.com/api/pagination).
        ids = [each["id"] for each in found]
        start = ids.index(query["starting_after"]) + 1 if "starting_after" in query else 0
        page = found[start : start + min(100, int(query.get("limit", "10")))]
        return {"object": "list", "data": page, "has_more": start + len(page) < len(found)}

    def post(self, path: str, form: dict[str, str], key: str | None) -> dict[str, Any]:
        # The same key with other parameters is an error (docs.stripe.com/api/idempotent_requests).
        if key in self.answers and key is not None:
            if self.answers[key][:2] != (path, form):
                raise Refused(400, "idempotency_error")
            kept = self.answers[key][2]
            if isinstance(kept, Refused):
                raise kept
            return kept
        unknown = set(form) - FIELDS["finalize" if path.endswith("/finalize") else path]
        if unknown:
            raise Refused(400, f"parameter_unknown {sorted(unknown)}")
        is_broken, was_acted = bool(self.breaks), not self.breaks or self.breaks.pop(0)
        answer = self._post(path, form) if was_acted else {}
        # "the idempotency layer caches the result of POST mutations that result in server errors (specifically
        # 500s)" (docs.stripe.com/error-low-level).
        kept = Refused(500, "api_error") if is_broken else answer
        if key is not None:
            self.answers[key] = (path, form, kept)
        if isinstance(kept, Refused):
            raise kept
        return answer

    def _post(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        metadata = {name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")}
        if path == "/v1/invoices":
            if any(each["number"] == form["number"] for each in self.invoices.values()):
                raise Refused(400, "invoice_number_taken")
            made: dict[str, Any] = {
                **form,
                "id": f"in_{len(self.invoices)}",
                "status": "draft",
                "metadata": metadata,
            }
            self.invoices[made["id"]] = made
            return dict(made)
        if path == "/v1/invoiceitems":
            self._draft(form["invoice"])
            int(form["amount"])
            # "up to 250 items per invoice" (docs.stripe.com/api/invoiceitems/create)
            if sum(each["invoice"] == form["invoice"] for each in self.items) >= 250:
                raise Refused(400, "invoice_too_many_items")
            item = {**form, "id": f"ii_{len(self.items)}", "metadata": metadata}
            self.items.append(item)
            return item
        self._draft(path.split("/")[3])["status"] = "open"
        return self._totalled(path.split("/")[3])

    def _draft(self, name: str) -> dict[str, Any]:
        invoice = self.invoices.get(name)
        if invoice is None:
            raise Refused(404, "resource_missing")
        if invoice["status"] != "draft":  # only a draft can be changed (docs.stripe.com/invoicing/overview)
            raise Refused(400, "invoice_not_editable")
        return invoice

    def _totalled(self, name: str) -> dict[str, Any]:
        total = sum(int(each["amount"]) for each in self.items if each["invoice"] == name)
        return self.invoices[name] | {"total": total + self.surcharge}


@contextmanager
def serving(emulator: Emulator) -> Iterator[str]:
    """Its address, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(emulator.get)

        def do_POST(self) -> None:
            form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self._answer(lambda path, _: emulator.post(path, form, self.headers["Idempotency-Key"]))

        def _answer(self, serve: Any) -> None:
            address = urlsplit(self.path)
            try:
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    raise Refused(401, "invalid_api_key")
                if emulator.failures:
                    raise emulator.failures.pop(0)
                status, answer = 200, serve(address.path, dict(parse_qsl(address.query)))
                headers: dict[str, str] = {}
            except Refused as error:
                status, answer = error.status, {"error": {"type": str(error), "message": str(error)}}
                headers = error.headers
            if emulator.lost_answers:
                emulator.lost_answers -= 1
                return
            text = json.dumps(answer).encode()
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
