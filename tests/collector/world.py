"""A gateway that can be scripted, over real TLS, and targets whose pages are written by the test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import yaml
from aiohttp import web

from collector.labels import render_labels
from collector.scrape.series import labels_of
from collector.wire import rw1, rw2
from collector.wire.frames import FrameLimits, GroupReader, open_body
from collector.wire.frames.model import Integers
from collector.wire.headers import CONTENT_TYPE_FRAMES, SAMPLES_WRITTEN, PushHeaders, parse_push_headers
from collector.wire.model import Decoded, DecodeLimits
from collector.wire.receipt import (
    CONTENT_TYPE_RECEIPT,
    RECEIPT_KEYS_PATH,
    PushName,
    Receipt,
    ReceiptSigner,
    render_key_set,
)
from collector.wire.series import series_of
from collector.wire.snappy import decompress
from kernel.clock import Clock, SystemClock
from kernel.identity import CertificateAuthority, peer_identity, server_context
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant

ACME = Tenant(OrganizationId("acme"), ProjectId("prod"))
COLLECTOR = CollectorId("collector-1")
LIMITS = DecodeLimits(2**31, 2**31, 2**31, 2**31, 2**31)
Rows = list[tuple[str, int, float]]


@dataclass
class Received:
    """A push as it came in."""

    push: PushHeaders
    version_2: bool
    rows: Rows  # (series, timestamp ms, value)
    raw: bytes
    decoded: bytes
    headers: dict[str, str]
    status: int = 204


Script = Callable[[Received], web.Response | None]


def rows_of(decoded: Decoded) -> Rows:
    return [(render_labels(one.labels), at, value) for one in series_of(decoded) for at, value in one.samples]


@dataclass
class ScriptedGateway:
    """Answers as `script` says; without one, takes everything. Keeps all that came."""

    authority: CertificateAuthority
    script: Script | None = None
    requests: list[Received] = field(default_factory=list)
    tokens: set[str] = field(default_factory=lambda: {"token-1"})
    enrolments: list[str] = field(default_factory=list)
    wire: bytearray = field(default_factory=bytearray)  # every byte of every request, heads and bodies
    port: int = 0
    lifetime_seconds: float | None = None
    readers: dict[tuple[str, int, int], GroupReader] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)  # of all dictionaries that came

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def taken(self) -> list[Received]:
        return [one for one in self.requests if one.status in (200, 204)]

    def rows(self) -> Rows:
        """What the lake would hold: each (lane, epoch, sequence, part) once."""
        first: dict[tuple[str, int, int, int], Received] = {}
        for one in self.taken:
            push = one.push
            first.setdefault((push.lane.value, push.epoch, push.sequence, push.part), one)
        return [row for one in first.values() for row in one.rows]

    def _note(self, request: web.Request, body: bytes) -> None:
        self.wire += str(request.url).encode() + repr(request.raw_headers).encode() + body

    async def write(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._note(request, body)
        if peer_identity(request.transport) is None:
            return web.Response(status=401, text="no certificate")
        push = parse_push_headers(request.headers.items())
        assert push is not None
        if request.headers["Content-Type"] == CONTENT_TYPE_FRAMES:
            return self._take_frames(push, body, request)
        version_2 = "proto=io.prometheus.write.v2.Request" in request.headers["Content-Type"]
        content = decompress(body, 2**31)
        decoded = rw2.decode_request(content, LIMITS) if version_2 else rw1.decode_write_request(content, LIMITS)
        self.wire += content
        received = Received(push, version_2, rows_of(decoded), body, content, dict(request.headers))
        answer = self.script(received) if self.script else None
        if answer is None:
            answer = web.Response(status=204, headers={SAMPLES_WRITTEN: str(len(received.rows))})
        received.status = answer.status
        self.requests.append(received)
        return answer

    def _take_frames(self, push: PushHeaders, body: bytes, request: web.Request) -> web.Response:
        key = (push.lane.value, push.epoch, open_body(body, FrameLimits()).group)
        reader = self.readers.setdefault(key, GroupReader(self._assign))
        first = len(self.entries)
        read = reader.read(body)
        self.wire += b"".join(self.entries[first:])
        rows = [
            (render_labels(labels_of(self.entries[number])), at, value)
            for one in read
            for number, at, value in zip(
                one.series.tolist(), one.timestamps_ms.tolist(), one.values.tolist(), strict=True
            )
        ]
        self.wire += repr(rows).encode()
        received = Received(push, False, rows, body, body, dict(request.headers), 200)
        answer = self.script(received) if self.script else None
        if answer is None:
            answer = web.Response(body=self._receipt(push, body, len(rows)), content_type=CONTENT_TYPE_RECEIPT)
        received.status = answer.status
        self.requests.append(received)
        return answer

    def _assign(self, entries: Sequence[bytes]) -> Integers:
        first = len(self.entries)
        self.entries += entries
        return np.arange(first, first + len(entries), dtype=np.int64)

    def _receipt(self, push: PushHeaders, body: bytes, samples: int) -> bytes:
        name = PushName(
            ACME.organization, ACME.project, COLLECTOR, push.lane.value, push.epoch, push.sequence, push.part
        )
        log = (("byoc.live", 0, len(self.requests)),)
        receipt = Receipt(name, sha256(body).hexdigest(), samples, SystemClock().now_ms(), log)
        return ReceiptSigner(self.authority.receipt_key()).answer(receipt)

    async def receipt_keys(self, request: web.Request) -> web.Response:
        self._note(request, b"")
        signer = ReceiptSigner(self.authority.receipt_key())
        return web.Response(body=render_key_set([signer.public], self.authority.sign_statement))

    async def enrol(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._note(request, b"")
        fields = json.loads(body)
        if fields["token"] not in self.tokens:
            return web.Response(status=403, text="this token was used")
        self.tokens.discard(fields["token"])
        return self._issue("enrol", fields["csr"])

    async def renew(self, request: web.Request) -> web.Response:
        if peer_identity(request.transport) is None:
            return web.Response(status=401, text="no certificate")
        return self._issue("renew", json.loads(await request.read())["csr"])

    def _issue(self, how: str, csr: str) -> web.Response:
        self.enrolments.append(how)
        issued = self.authority.issue_client(csr.encode(), ACME, COLLECTOR)
        return web.json_response(
            {"certificate": issued.certificate_pem.decode(), "authority": self.authority.certificate_pem.decode()}
        )


@asynccontextmanager
async def run_gateway(folder: Path, clock: Clock | None = None, port: int = 0) -> AsyncIterator[ScriptedGateway]:
    """A gateway on a free port of localhost, with its own authority in `folder/ca`."""
    clock = clock or SystemClock()
    if (folder / "ca").exists():
        authority = CertificateAuthority.open(folder / "ca", clock)
    else:
        authority = CertificateAuthority.create(folder / "ca", "byoc.test", clock)
    gateway = ScriptedGateway(authority)
    async with serve_gateway(gateway, folder, port):
        yield gateway


@asynccontextmanager
async def serve_gateway(gateway: ScriptedGateway, folder: Path, port: int = 0) -> AsyncIterator[None]:
    issued = gateway.authority.issue_server(("localhost",))
    assert issued.private_key_pem is not None
    certificate, key = folder / "server.pem", folder / "server-key.pem"
    certificate.write_bytes(issued.certificate_pem)
    key.write_bytes(issued.private_key_pem)
    (folder / "ca.pem").write_bytes(gateway.authority.certificate_pem)
    (folder / "token").write_text("token-1\n")
    context = server_context(certificate, key, gateway.authority.certificate_pem)
    app = web.Application(client_max_size=2**30)
    app.add_routes(
        [
            web.post("/api/v1/write", gateway.write),
            web.post("/enrol", gateway.enrol),
            web.post("/renew", gateway.renew),
            web.get(RECEIPT_KEYS_PATH, gateway.receipt_keys),
        ]
    )
    async with serve(app, context, port) as bound:
        gateway.port = bound
        yield


@asynccontextmanager
async def serve(app: web.Application, context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Page:
    """A target's page. `body` may be a function of the number of the scrape, from 1."""

    body: bytes | Callable[[int], bytes] = b"milvus_up 1\n"
    content_type: str = "text/plain; version=0.0.4"
    status: int = 200
    scrapes: int = 0
    requests: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.scrapes += 1
        self.requests.append(request)
        body = self.body if isinstance(self.body, bytes) else self.body(self.scrapes)
        return web.Response(body=body, status=self.status, headers={"Content-Type": self.content_type})


@asynccontextmanager
async def run_target(page: Page) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/{tail:.*}", page.answer)])
    async with serve(app) as port:
        yield port


def write_config(folder: Path, gateway_url: str, **sections: object) -> Path:
    """A collector.yaml in `folder`; sections given replace the defaults here, those of `gateway+` add to them."""
    content: dict[str, object] = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "gateway": {
            "url": gateway_url,
            "ca_file": "ca.pem",
            "token_file": "token",
            "min_backoff": "20ms",
            "max_backoff": "100ms",
            **_mapping(sections.pop("gateway+", {})),
        },
        "health": {"port": 0},
        **sections,
    }
    path = folder / "collector.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _mapping(section: object) -> dict[str, object]:
    assert isinstance(section, dict)
    return section


def static_job(*ports: int, **fields: object) -> dict[str, object]:
    targets = [f"127.0.0.1:{port}" for port in ports]
    return {"job_name": "milvus", "static_configs": [{"targets": targets}], **fields}


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a real server or process, bounded."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a real server, polled
            await asyncio.sleep(0.01)
