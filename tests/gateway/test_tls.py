"""Handshakes: real sockets, real certificates, and everyone who must stay outside."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import uvloop

from kernel.clock import SystemClock, VirtualClock, from_ms
from kernel.identity import CertificateAuthority, client_context, new_private_key, render_csr, render_private_key
from metering.gateway.settings import GatewaySettings
from tests.gateway.world import Credentials, GatewayWorld, Sender, gateway_world, write_credentials
from tests.identity.world import ACME, COLLECTOR

ROWS = [((("__name__", "up"),), [(SystemClock().now_ms(), 1.0)])]


SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"]


class ShiftedClock(SystemClock):
    """The machine's clock, some time away."""

    def __init__(self, shift: timedelta) -> None:
        self._shift_ms = int(shift.total_seconds() * 1000)

    def now_ms(self) -> int:
        return super().now_ms() + self._shift_ms

    def now(self):  # type: ignore[no-untyped-def]
        return from_ms(self.now_ms())


def raw_request(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bytes, ssl.SSLSession | None, bool]:
    """One request on a connection of its own: the answer's first line, the TLS session, whether it was resumed."""
    head = b"POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
    ):
        tls.sendall(head)
        answer = b""
        while block := tls.recv(4096):
            answer += block
        return answer.split(b"\r\n")[0], tls.session, bool(tls.session_reused)


async def first_line(world: GatewayWorld, context: ssl.SSLContext) -> bytes:
    line, _, _ = await asyncio.to_thread(raw_request, world.server.port, context)
    return line


async def is_left_outside(world: GatewayWorld, context: ssl.SSLContext) -> bool:
    """No byte of an answer comes: the handshake fails (with TLS 1.3 the client learns it when it reads)."""
    try:
        return await first_line(world, context) == b""
    except (ssl.SSLError, ConnectionError):
        return True


async def test_a_known_collector_gets_in(sender: Sender) -> None:
    assert (await sender.write(ROWS)).status == 204


async def test_without_a_certificate_only_enrolment_answers(world: GatewayWorld) -> None:
    async with Sender(world, world.context()) as stranger:
        for path in ("/api/v1/write", "/renew", "/", "/metrics", "/enrol/", "/enrol/../api/v1/write"):
            answer = await stranger.post(path, b"", {})
            assert answer.status == 403, path
            assert "certificate is required" in answer.text
        assert (await stranger.post("/enrol", b"", {})).status == 400


def signed_by(
    world: GatewayWorld, authority: CertificateAuthority, lifetime: timedelta = timedelta(hours=1)
) -> Credentials:
    key = new_private_key()
    issued = authority.issue_client(render_csr(key), ACME, COLLECTOR, lifetime)
    stem = world.identity.folder / f"by-{issued.serial}"
    return write_credentials(stem, issued.certificate_pem, render_private_key(key))


async def test_a_certificate_of_another_ca_ends_the_handshake(world: GatewayWorld) -> None:
    other = CertificateAuthority.create(world.identity.folder / "other", "byoc.test", SystemClock())
    assert await is_left_outside(world, world.context(signed_by(world, other)))


@pytest.mark.parametrize("days", [-2, 2], ids=["expired", "not yet valid"])
async def test_a_certificate_out_of_its_time_writes_nothing(world: GatewayWorld, days: int) -> None:
    elsewhen = CertificateAuthority.open(world.identity.folder / "authority", ShiftedClock(timedelta(days=days)))
    async with Sender(world, world.context(signed_by(world, elsewhen, timedelta(hours=24)))) as sender:
        answer = await sender.write(ROWS)
    assert (answer.status, answer.headers["Connection"]) == (403, "close")
    assert "has expired, or does not begin yet" in answer.text
    assert await world.stored() == []


async def test_a_server_certificate_is_no_client_certificate(world: GatewayWorld) -> None:
    issued = world.identity.authority.issue_server(["localhost"])
    assert issued.private_key_pem
    stolen = write_credentials(world.identity.folder / "stolen", issued.certificate_pem, issued.private_key_pem)
    assert await is_left_outside(world, world.context(stolen))


async def test_a_client_certificate_is_no_gateway(world: GatewayWorld) -> None:
    """A collector must not be able to stand in for the gateway before other collectors."""
    files = world.credentials()
    world.server.context.load_cert_chain(files.certificate, files.key)
    with pytest.raises(ssl.SSLError):
        await first_line(world, world.context())


def weak_context(world: GatewayWorld, change: Callable[[ssl.SSLContext], None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=world.identity.authority.certificate_pem.decode())
    files = world.credentials()
    context.load_cert_chain(files.certificate, files.key)
    change(context)
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_refused(world: GatewayWorld) -> None:
    def old(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")

    assert await is_left_outside(world, weak_context(world, old))


@pytest.mark.parametrize("ciphers", ["ECDHE+AES128", "ECDHE+CHACHA20", "AES256-GCM-SHA384"])
async def test_tls_1_2_without_aes_256_gcm_and_forward_secrecy_is_refused(
    world: GatewayWorld, ciphers: str
) -> None:
    def weak(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)

    assert await is_left_outside(world, weak_context(world, weak))


async def test_tls_1_2_with_aes_256_gcm_is_accepted(world: GatewayWorld) -> None:
    def strong(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    assert b"415" in await first_line(world, weak_context(world, strong))


@pytest.mark.parametrize("suite", SUITES)
async def test_tls_1_3_with_another_suite_is_turned_away(world: GatewayWorld, suite: str) -> None:
    """Python can't offer one suite alone, so OpenSSL's own client does."""
    files = world.credentials()
    authority = world.identity.folder / "authority" / "ca.pem"
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"localhost:{world.server.port}", "-tls1_3", "-quiet"),
        *("-ciphersuites", suite, "-cert", files.certificate, "-key", files.key, "-CAfile", authority),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert client.stdin
    assert client.stdout
    client.stdin.write(b"POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    line = await asyncio.wait_for(client.stdout.readline(), 60)
    if suite == "TLS_AES_256_GCM_SHA384":
        assert b"415" in line
        client.kill()
    else:
        assert b"403" in line
        assert b"AES-256-GCM is required" in await asyncio.wait_for(client.stdout.read(), 60)  # and then it ends
        assert world.metric("byoc_gateway_turned_away_total", reason="weak_cipher") == 1
    await client.communicate()


async def test_a_revoked_certificate_is_refused_on_a_new_connection(world: GatewayWorld) -> None:
    context = world.context(world.credentials())
    assert b"415" in await first_line(world, context)
    await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
    assert b"403" in await first_line(world, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_revoked_certificate_is_refused_in_a_resumed_session(
    world: GatewayWorld, version: ssl.TLSVersion
) -> None:
    context = world.context(world.credentials())
    context.maximum_version = version
    port = world.server.port
    line, session, _ = await asyncio.to_thread(raw_request, port, context)
    assert b"415" in line
    line, session, resumed = await asyncio.to_thread(raw_request, port, context, session)
    assert (b"415" in line, resumed) == (True, True)
    await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
    line, _, resumed = await asyncio.to_thread(raw_request, port, context, session)
    assert (b"403" in line, resumed) == (True, True)


async def test_open_connections_of_a_revoked_certificate_are_closed(world: GatewayWorld) -> None:
    async with (
        Sender(world, world.context(world.credentials())) as revoked,
        Sender(world, world.context(world.credentials(collector=COLLECTOR2))) as other,
    ):
        assert (await revoked.write(ROWS)).status == 204
        assert (await other.write(ROWS)).status == 204
        await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
        await until(lambda: world.metric("byoc_gateway_turned_away_total", reason="revoked") == 1)
        assert (await other.write(ROWS)).status == 204
        assert await refused(revoked) == 403


async def test_a_keep_alive_connection_is_checked_at_each_request(world: GatewayWorld) -> None:
    """Even before the watcher comes by: the list says revoked, the next request is refused."""
    async with Sender(world, world.context(world.credentials())) as revoked:
        assert (await revoked.write(ROWS)).status == 204
        world.server.sweep = lambda: None  # type: ignore[method-assign]
        await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
        answer = await revoked.write(ROWS)
        assert (answer.status, answer.headers["Connection"]) == (403, "close")
        assert "revoked" in answer.text


async def test_a_certificate_that_expires_on_an_open_connection_is_refused(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    async with (
        gateway_world(tmp_path, clock=clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        assert (await sender.write(ROWS)).status == 204
        clock.step_wall(25 * 3600)
        answer = await sender.write(ROWS)
        assert (answer.status, "expired" in answer.text) == (403, True)


async def test_a_connection_that_never_says_who_it_is_is_closed(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    async with gateway_world(tmp_path, GatewaySettings(handshake_seconds=5), clock) as world:
        reader, writer = await asyncio.open_connection("localhost", world.server.port, ssl=world.context())
        writer.write(b"POST /enrol HTTP/1.1\r\nHost: l")
        world.server.sweep()
        await until(lambda: swept(world) == 1)
        await clock.advance(6)
        world.server.sweep()
        assert await rest_of(reader) == b""
        writer.close()
        assert world.metric("byoc_gateway_turned_away_total", reason="silent") == 1


async def test_an_old_list_of_revocations_lets_nobody_in(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    async with (
        gateway_world(tmp_path, clock=clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        assert (await sender.write(ROWS)).status == 204
        await clock.advance(31)
        answer = await sender.write(ROWS)
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)


async def test_the_own_certificate_is_renewed_while_serving(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    async with gateway_world(tmp_path, clock=clock) as world:
        before = await asyncio.to_thread(ssl.get_server_certificate, ("localhost", world.server.port))
        watch = asyncio.create_task(world.server.watch())
        expiry = "byoc_gateway_certificate_expiry_timestamp_seconds"
        await until_advancing(clock, lambda: world.metric(expiry) > 0)
        first = world.metric(expiry)
        clock.step_wall(21 * 86_400)
        await until_advancing(clock, lambda: world.metric(expiry) > first)
        watch.cancel()
        after = await asyncio.to_thread(ssl.get_server_certificate, ("localhost", world.server.port))
        assert before != after


def test_uvloop_sees_the_same_certificates(tmp_path: Path) -> None:
    """The peer's certificate and the cipher come from the transport, which is another class there."""

    async def scenario() -> None:
        async with (
            gateway_world(tmp_path) as world,
            Sender(world, world.context(world.credentials())) as sender,
            Sender(world, world.context()) as stranger,
        ):
            assert (await sender.write(ROWS)).status == 204
            (header, rows), *_ = await world.stored()
            assert (header.tenant, rows[0][0]["organization"]) == (ACME, "acme")
            assert (await stranger.write(ROWS)).status == 403
            await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
            await until(lambda: world.metric("byoc_gateway_turned_away_total", reason="revoked") == 1)
            assert await refused(sender) == 403

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


COLLECTOR2 = type(COLLECTOR)("collector-2")


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""


def swept(world: GatewayWorld) -> float:
    world.server.sweep()
    return world.metric("byoc_gateway_connections")


async def refused(sender: Sender) -> int:
    """The status on a new connection; the first try may meet the closed one."""
    for _ in range(3):
        try:
            return (await sender.write(ROWS)).status
        except (aiohttp.ClientError, ConnectionError):
            continue
    raise AssertionError("no answer in three tries")


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(6000):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not come true in a minute")


async def until_advancing(clock: VirtualClock, is_true: Callable[[], bool]) -> None:
    for _ in range(6000):
        if is_true():
            return
        await clock.advance(1)
        await asyncio.sleep(0.01)
    raise AssertionError("did not come true")


def test_a_client_context_without_a_certificate_still_checks_the_gateway(tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path, "byoc.test", SystemClock())
    context = client_context(authority.certificate_pem)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
