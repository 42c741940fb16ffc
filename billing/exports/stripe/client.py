"""Calls of Stripe's API: form-encoded, with an idempotency key, over TLS. The key is in no message and no repr."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kernel.errors import InvalidInput, Refuse, Retry, truncate

TIMEOUT_SECONDS = 30
ANSWER_BYTES = 4 << 20
ATTEMPTS = 3
_PASSING = frozenset({409, 429})  # docs.stripe.com/error-handling; with the same key it is safe to repeat


@dataclass(frozen=True, slots=True)
class StripeClient:
    """One account at one address. No redirects: the key goes to this host alone. Raises InvalidInput."""

    secret: str = field(repr=False)
    address: str = "https://api.stripe.com"

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
            raise InvalidInput.single("stripe", "address", self.address, "https://, or http:// on loopback")
        if not (self.secret.isascii() and self.secret.isprintable() and self.secret):
            raise InvalidInput.single("stripe", "key", "(not shown)", "one line of printable characters")

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The answer. Raises Retry, Refuse."""
        return self._repeat("GET", f"{path}?{urlencode(query)}" if query else path, None, {})

    def post(self, path: str, form: Mapping[str, str], key: str) -> dict[str, Any]:
        """The answer, the same for the same `key`. Raises Retry, Refuse."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": quote(key, safe="/:")}
        return self._repeat("POST", path, urlencode(form), headers)

    def _repeat(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> dict[str, Any]:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._call(method, path, body, headers)
            except Retry:
                continue
        return self._call(method, path, body, headers)

    def _call(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> dict[str, Any]:
        parts = urlsplit(self.address)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        )
        try:
            connection.request(method, path, body, headers | {"Authorization": f"Bearer {self.secret}"})
            response = connection.getresponse()
            status, text = response.status, response.read(ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Retry(f"Stripe did not answer ({type(error).__name__}); run the same again") from error
        finally:
            connection.close()
        return _answer(status, text)


def _answer(status: int, text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if status == 200 and isinstance(found, dict):
        return found
    # Stripe's `message` may repeat a part of the key, so only the type and code are told.
    said = found.get("error") if isinstance(found, dict) else None
    words = (
        [str(said[name]) for name in ("type", "code", "param") if said.get(name)] if isinstance(said, dict) else []
    )
    message = f"Stripe answered {status} {truncate(' '.join(words))}".rstrip()
    raise (Retry if status in _PASSING or status >= 500 else Refuse)(message)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
