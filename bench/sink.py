"""Where agents push: a TLS server that counts what comes, answers as the specification says, keeps nothing.

Of our own frames the head says how many samples there are. In remote write, a series of a scrape carries one; the
first push is decoded whole to see that it is so: to decode them all would take a core from the target that shares
it.

`python -m bench.sink FOLDER` prints its TLS port and the port of its counts. Bytes are those of the connection as
the kernel counts them: TLS records and HTTP heads too, so that nothing on the wire is left out.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from hashlib import sha256
from pathlib import Path

from aiohttp import web

from bench.identity import COLLECTOR, FILES, TENANT
from collector.wire import rw1, rw2
from collector.wire.frames import FrameLimits, open_body
from collector.wire.headers import (
    CONTENT_TYPE_FRAMES,
    EXEMPLARS_WRITTEN,
    HISTOGRAMS_WRITTEN,
    SAMPLES_WRITTEN,
    parse_push_headers,
)
from collector.wire.model import DecodeLimits
from collector.wire.receipt import (
    CONTENT_TYPE_RECEIPT,
    RECEIPT_KEYS_PATH,
    PushName,
    Receipt,
    ReceiptSigner,
    render_key_set,
)
from collector.wire.snappy import decompress
from kernel.clock import SystemClock
from kernel.identity import CertificateAuthority, server_context

_ANY = DecodeLimits(2**31, 2**31, 2**31, 2**31, 2**31, 2**31)
CHECKED_PUSHES = 1
_TCP_INFO_BYTES_RECEIVED = 128  # struct tcp_info of linux/tcp.h: tcpi_bytes_received


class Sink:
    """Counts of all that came."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._authority = authority
        self._received: dict[int, int] = {}  # bytes of each connection so far
        self.pushes = self.samples = self.body_bytes = 0
        self.ciphers: set[str] = set()
        self._signer = ReceiptSigner(authority.receipt_key())

    async def write(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._note_connection(request)
        kind = request.headers["Content-Type"]
        if kind == CONTENT_TYPE_FRAMES:
            return self._take_frames(request, body)
        is_version_2, is_checked = "v2.Request" in kind, self.pushes < CHECKED_PUSHES
        samples = await asyncio.to_thread(count_samples, body, is_version_2=is_version_2, is_checked=is_checked)
        self.pushes += 1
        self.samples += samples
        self.body_bytes += len(body)
        written = {SAMPLES_WRITTEN: str(samples), HISTOGRAMS_WRITTEN: "0", EXEMPLARS_WRITTEN: "0"}
        return web.Response(status=204, headers=written)

    def _take_frames(self, request: web.Request, body: bytes) -> web.Response:
        """As a gateway answers: with a receipt, so that the collector believes that all of it arrived."""
        samples = open_body(body, FrameLimits()).samples
        push = parse_push_headers(request.headers.items())
        assert push is not None
        self.pushes += 1
        self.samples += samples
        self.body_bytes += len(body)
        name = PushName(
            TENANT.organization, TENANT.project, COLLECTOR, push.lane.value, push.epoch, push.sequence, push.part
        )
        now_ms = SystemClock().now_ms()
        receipt = Receipt(name, sha256(body).hexdigest(), samples, now_ms, (("bench", 0, self.pushes),))
        return web.Response(body=self._signer.answer(receipt), content_type=CONTENT_TYPE_RECEIPT)

    async def keys(self, request: web.Request) -> web.Response:
        return web.Response(body=render_key_set([self._signer.public], self._authority.sign_statement))

    def _note_connection(self, request: web.Request) -> None:
        transport = request.transport
        assert transport is not None
        connection = transport.get_extra_info("socket")
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        (received,) = struct.unpack_from("=Q", information, _TCP_INFO_BYTES_RECEIVED)
        self._received[id(transport)] = received
        self.ciphers.add(transport.get_extra_info("cipher")[0])

    async def sign(self, request: web.Request) -> web.Response:
        fields = json.loads(await request.read())
        issued = self._authority.issue_client(fields["csr"].encode(), TENANT, COLLECTOR)
        authority = self._authority.certificate_pem.decode()
        return web.json_response({"certificate": issued.certificate_pem.decode(), "authority": authority})

    async def counts(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "pushes": self.pushes,
                "samples": self.samples,
                "body_bytes": self.body_bytes,
                "wire_bytes": sum(self._received.values()),
                "ciphers": sorted(self.ciphers),
            }
        )


class BodyNotUnderstood(Exception):
    """A body whose series do not carry one sample each."""


def count_samples(body: bytes, *, is_version_2: bool, is_checked: bool) -> int:
    """The samples of a push. Raises BodyNotUnderstood when it `is_checked` and the whole decoder disagrees."""
    content = decompress(body, 2**31)
    counted = _count_fields(content, 0x2A if is_version_2 else 0x0A)
    if is_checked:
        decode = rw2.decode_request if is_version_2 else rw1.decode_write_request
        decoded = decode(content, _ANY).samples
        if decoded != counted:
            raise BodyNotUnderstood(f"{counted} series and {decoded} samples in one body")
    return counted


def _count_fields(content: bytes, key: int) -> int:
    """How often a length-delimited field stands at the top level of a message."""
    count, at, end = 0, 0, len(content)
    while at < end:
        count += content[at] == key
        at, shift, length = at + 1, 0, 0
        while content[at] > 127:
            length |= (content[at] & 127) << shift
            shift += 7
            at += 1
        at += 1 + (length | content[at] << shift)
    return count


async def serve(folder: Path) -> None:
    authority = CertificateAuthority.open(folder / FILES.authority, SystemClock())
    sink = Sink(authority)
    context = server_context(folder / FILES.server, folder / FILES.server_key, authority.certificate_pem)
    app = web.Application(client_max_size=2**30)
    app.add_routes(
        [
            web.post("/api/v1/write", sink.write),
            web.post("/enrol", sink.sign),
            web.post("/renew", sink.sign),
            web.get("/counts", sink.counts),
            web.get(RECEIPT_KEYS_PATH, sink.keys),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(*(address[1] for address in runner.addresses), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
