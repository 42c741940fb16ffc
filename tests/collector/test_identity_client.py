"""Enrolment, renewal and what a collector says about a certificate that does not hold."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from collector.errors import EnrolmentFailed, IdentityRefused
from collector.identity.client import IdentityClient
from collector.identity.renewal import Renewal
from collector.metrics import CollectorMetrics
from collector.push.transport import HttpsSender
from collector.settings import GatewaySettings, load_collector_settings
from kernel.clock import SystemClock, VirtualClock
from kernel.identity import CertificateAuthority
from tests.collector.world import run_gateway, until, write_config


def settings(folder: Path, url: str) -> GatewaySettings:
    return load_collector_settings(write_config(folder, url)).gateway


async def test_enrolment_keeps_key_and_certificate_for_us_alone(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway:
        client = IdentityClient(settings(tmp_path, gateway.url), SystemClock())
        held = await client.ensure()
        assert held.identity.who == "acme/prod/collector-1"
        assert await client.ensure() == held
        assert gateway.enrolments == ["enrol"]
    folder = tmp_path / "identity"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert oct((folder / "identity.pem").stat().st_mode & 0o777) == "0o600"
    assert not (folder / "pending-key.pem").exists()
    assert client.context() is not None


async def test_a_token_that_was_used_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway:
        gateway.tokens.clear()
        client = IdentityClient(settings(tmp_path, gateway.url), SystemClock())
        with pytest.raises(IdentityRefused, match="this token was used: ask the vendor for a new token"):
            await client.ensure()


async def test_without_a_gateway_enrolment_is_tried_again_with_the_same_key(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway:
        pass
    client = IdentityClient(settings(tmp_path, gateway.url), SystemClock())
    with pytest.raises(EnrolmentFailed):
        await client.ensure()
    before = client.folder.pending_key()
    assert client.folder.pending_key().private_numbers() == before.private_numbers()


async def test_without_a_token_the_message_says_so(tmp_path: Path) -> None:
    gateway = settings(tmp_path, "https://localhost:1").model_copy(update={"token_file": None})
    with pytest.raises(IdentityRefused, match=r"set gateway\.token_file"):
        await IdentityClient(gateway, SystemClock()).ensure()


async def test_renewal_at_two_thirds_with_a_new_key_and_without_a_restart(tmp_path: Path) -> None:
    # The certificate is real, so its life runs on the real clock; the collector's clock stands at a later hour.
    clock = VirtualClock(SystemClock().now())
    async with run_gateway(tmp_path) as gateway:
        client = IdentityClient(settings(tmp_path, gateway.url), clock)
        sender = HttpsSender(settings(tmp_path, gateway.url), client.context)
        first = await client.ensure()
        key = client.folder.certificate_path.read_bytes()
        life = first.not_after - first.not_before
        assert abs(first.renew_at - (first.not_before + life * 2 / 3)) < timedelta(seconds=1)
        clock.step_wall((first.renew_at - clock.now()).total_seconds() + 1)
        renewal = Renewal(client, sender, CollectorMetrics(), clock)
        import asyncio

        task = asyncio.create_task(renewal.run())
        await until(lambda: renewal.problem is None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert gateway.enrolments == ["enrol", "renew"]
        renewed = client.folder.certificate_path.read_bytes()
        assert renewed.split(b"-----BEGIN CERT")[0] != key.split(b"-----BEGIN CERT")[0]
        await sender.close()


async def enrolled(folder: Path) -> IdentityClient:
    async with run_gateway(folder) as gateway:
        client = IdentityClient(settings(folder, gateway.url), SystemClock())
        await client.ensure()
    return client


async def test_an_expired_certificate_is_seen_before_any_handshake(tmp_path: Path) -> None:
    client = await enrolled(tmp_path)
    late = SystemClock().now() + timedelta(hours=25)
    with pytest.raises(IdentityRefused, match=r"acme/prod/collector-1 expired at .* enrol again"):
        client.folder.check(late)
    assert client.folder.check(late, to_renew=True).not_after < late


async def test_a_certificate_of_another_authority_is_seen_before_any_handshake(tmp_path: Path) -> None:
    client = await enrolled(tmp_path)
    other = CertificateAuthority.create(tmp_path / "other", "byoc.test", SystemClock())
    client.folder.authority_path.write_bytes(other.certificate_pem)
    with pytest.raises(IdentityRefused, match="from another authority"):
        client.context()


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_damaged_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    client = await enrolled(tmp_path)
    client.folder.certificate_path.write_bytes(content)
    with pytest.raises(IdentityRefused, match="is no certificate"):
        client.folder.check(SystemClock().now())


async def test_a_certificate_for_another_key_is_not_kept(tmp_path: Path) -> None:
    client = await enrolled(tmp_path)
    content = client.folder.certificate_path.read_bytes()
    certificate = content[content.find(b"-----BEGIN CERT") :]
    with pytest.raises(IdentityRefused, match="for another key"):
        client.folder.save(certificate, client.folder.authority_path.read_bytes())
    assert client.folder.certificate_path.read_bytes() == content


async def test_the_pseudonym_key_is_made_once_and_secret(tmp_path: Path) -> None:
    client = await enrolled(tmp_path)
    key = client.folder.pseudonym_key()
    assert client.folder.pseudonym_key() == key
    assert len(key) == 32
    mode = os.stat(tmp_path / "identity" / "pseudonym.key").st_mode  # noqa: PTH116
    assert mode & 0o077 == 0
