"""Calls of Stripe's API: form-encoded, with an idempotency key, over TLS. The key is in no message and no repr."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kernel.errors import InvalidInput, Refuse, Retry, SlowDown, truncate

TIMEOUT_SECONDS = 30
ANSWER_BYTES = 4 << 20
ATTEMPTS = 5
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
# docs.stripe.com/error-low-level: a 429 is answered before keys are looked at, a 409 may be the same key in use.
_PASSING = frozenset({409, 429})


@dataclass(frozen=True, slots=True)
class StripeClient:
    """One account at one address. No redirects: the key goes to this host alone. Raises InvalidInput.

    A call that met a passing fault is repeated with the same key after `sleep`, which takes seconds.
    """

    secret: str = field(repr=False)
    address: str = "https://api.stripe.com"
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

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
        for failures in range(1, ATTEMPTS):
            try:
                return self._call(method, path, body, headers)
            except SlowDown as error:
                self.sleep(max(_backoff(failures), min(error.retry_after_seconds, LONGEST_WAIT_SECONDS)))
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
            raise SlowDown(f"Stripe did not answer ({type(error).__name__}); run the same again", 0) from error
        finally:
            connection.close()
        return _answer(status, text, response.headers)


def _backoff(failures: int) -> float:
    """Seconds after so many failures in a row: doubled, half of it by chance (docs.stripe.com/rate-limits)."""
    return FIRST_WAIT_SECONDS * 2.0 ** (failures - 1) * random.uniform(0.5, 1)


def _answer(status: int, text: bytes, headers: http.client.HTTPMessage) -> dict[str, Any]:
    """The object. Raises SlowDown for what may pass soon, Retry for what may pass later, Refuse."""
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
    # docs.stripe.com/error-low-level: the header decides where there is one. A 500 is kept under its key for a day
    # and may have been acted upon: whoever runs the same again looks first.
    may_pass = headers.get("Stripe-Should-Retry", str(status in _PASSING or status >= 500)).lower() == "true"
    if may_pass:
        after = headers.get("Retry-After", "")
        raise SlowDown(message, int(after[:4]) if after.isascii() and after.isdigit() else 0)
    if status >= 500:
        raise Retry(f"{message}, for a day to the same call; run the same again")
    raise Refuse(message)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
