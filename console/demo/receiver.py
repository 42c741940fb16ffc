"""On-call's side: a webhook receiver that checks the Standard Webhooks signature and keeps what it got."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from kernel.clock import Clock

TOLERANCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came, and whether its signature was right."""

    received_ms: int
    verified: bool
    webhook_id: str
    body: dict[str, Any]

    def firing(self, alertname: str) -> bool:
        """Whether this page says that alert fires."""
        return any(
            alert.get("status") == "firing" and alert.get("labels", {}).get("alertname") == alertname
            for alert in self.body.get("alerts", [])
        )


class Receiver:
    """Writes every request, byte for byte, to `webhooks.jsonl`; answers 204, or 401 if the signature is wrong."""

    def __init__(self, secret: str, journal: Path, clock: Clock) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._journal = journal
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self.received: list[Received] = []

    async def start(self) -> str:
        """Listen on a free loopback port; returns the URL to page."""
        app = web.Application(client_max_size=1024**2)
        app.add_routes([web.post("/page", self._page)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/page"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        body = await request.read()
        verified = self._verify(request, body)
        page = Received(self._clock.now_ms(), verified, request.headers.get("webhook-id", ""), json.loads(body))
        line = {
            "received_at": self._clock.now().isoformat(),
            "signature_verified": verified,
            "headers": dict(request.headers),
            "body": body.decode(),
        }
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line, sort_keys=True) + "\n")
        self.received.append(page)
        return web.Response(status=204 if verified else 401)

    def _verify(self, request: web.Request, body: bytes) -> bool:
        """Standard Webhooks 1.0.0, symmetric signature v1."""
        stamp = request.headers.get("webhook-timestamp", "")
        if not stamp.isdigit() or abs(int(stamp) - self._clock.now_ms() / 1000) > TOLERANCE_SECONDS:
            return False
        signed = f"{request.headers.get('webhook-id', '')}.{stamp}.".encode() + body
        expected = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        offered = [part.removeprefix("v1,") for part in request.headers.get("webhook-signature", "").split()]
        return any(hmac.compare_digest(expected, signature) for signature in offered)
