"""A real HTTP receiver with a script of answers, which checks every signature with another implementation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Request:
    """What arrived, and what it was answered."""

    webhook_id: str
    body: dict[str, Any]
    answer: int
    raw: str

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(alert["status"], alert["labels"]["alertname"]) for alert in self.body["alerts"]]


class Receiver:
    """Listens on 127.0.0.1. `answer` decides what each request gets; unset, all are taken."""

    def __init__(self, secret: str = SECRET) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[], Answer] = Answer
        self.bad_signatures: list[str] = []
        self._webhook = Webhook(secret)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/page"

    @property
    def taken(self) -> list[Request]:
        return [request for request in self.requests if request.answer < 300]

    async def start(self) -> Self:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/page", self._serve)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.Response:
        raw = await request.text()
        self._check(request, raw)
        answer = self.answer()
        identity = request.headers["webhook-id"]
        self.requests.append(Request(identity, json.loads(raw), answer.status, raw))
        return web.Response(status=answer.status, text=answer.text, headers=answer.headers)

    def _check(self, request: web.Request, raw: str) -> None:
        moment = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        expected = self._webhook.sign(request.headers["webhook-id"], moment, raw)
        if expected not in request.headers["webhook-signature"].split():
            self.bad_signatures.append(request.headers["webhook-id"])
