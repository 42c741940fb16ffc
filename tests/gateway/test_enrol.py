"""Enrolment and renewal over the wire."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.clock import SystemClock, VirtualClock
from kernel.errors import InvalidInput
from kernel.identity import certificate_identity, new_private_key, render_csr, render_private_key
from metering.gateway.enrol import _parse
from metering.gateway.settings import GatewaySettings
from tests.gateway.world import GatewayWorld, Sender, gateway_world, write_credentials
from tests.identity.world import ACME, COLLECTOR

ROWS = [((("__name__", "up"),), [(SystemClock().now_ms(), 1.0)])]


async def test_from_token_to_first_push(world: GatewayWorld) -> None:
    """What a new collector does, with what it gets."""
    key = new_private_key()
    token = await asyncio.to_thread(world.identity.tokens.create, ACME, COLLECTOR)
    async with Sender(world, world.context()) as stranger:
        answer = await stranger.json("/enrol", {"token": token, "csr": render_csr(key).decode()})
    assert answer.status == 200
    got = json.loads(answer.text)
    assert set(got) == {"certificate", "authority"}
    assert got["authority"] == world.identity.authority.certificate_pem.decode()
    stem = world.identity.folder / "enrolled"
    files = write_credentials(stem, got["certificate"].encode(), render_private_key(key))
    async with Sender(world, world.context(files)) as sender:
        assert (await sender.write(ROWS)).status == 204


async def test_a_token_is_good_for_one(world: GatewayWorld) -> None:
    token = await asyncio.to_thread(world.identity.tokens.create, ACME, COLLECTOR)
    body = {"token": token, "csr": render_csr(new_private_key()).decode()}
    async with Sender(world, world.context()) as stranger:
        assert (await stranger.json("/enrol", body)).status == 200
        answer = await stranger.json("/enrol", body)
    assert answer.status == 403
    assert token not in answer.text


async def test_of_two_at_once_one_gets_it(world: GatewayWorld) -> None:
    token = await asyncio.to_thread(world.identity.tokens.create, ACME, COLLECTOR)
    body = {"token": token, "csr": render_csr(new_private_key()).decode()}
    async with Sender(world, world.context()) as one, Sender(world, world.context()) as two:
        answers = await asyncio.gather(*(sender.json("/enrol", body) for sender in (one, two, one, two)))
    assert sorted(answer.status for answer in answers) == [200, 403, 403, 403]


async def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    async with gateway_world(tmp_path, clock=clock) as world, Sender(world, world.context()) as stranger:
        token = await asyncio.to_thread(world.identity.tokens.create, ACME, COLLECTOR, 60)
        await clock.advance(61)
        body = {"token": token, "csr": render_csr(new_private_key()).decode()}
        assert (await stranger.json("/enrol", body)).status == 403


async def test_a_renewal_gives_the_same_name_and_another_serial(world: GatewayWorld) -> None:
    files = world.credentials()
    async with Sender(world, world.context(files)) as sender:
        answer = await sender.json("/renew", {"csr": render_csr(new_private_key()).decode()})
    old = certificate_identity(files.certificate.read_bytes())
    new = certificate_identity(json.loads(answer.text)["certificate"].encode())
    assert (answer.status, new.who) == (200, old.who)
    assert new.serial != old.serial


async def test_a_revoked_collector_gets_no_renewal(world: GatewayWorld) -> None:
    context = world.context(world.credentials())
    await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
    async with Sender(world, context) as sender:
        answer = await sender.json("/renew", {"csr": render_csr(new_private_key()).decode()})
    assert answer.status == 403


async def test_a_get_of_enrol_is_405(world: GatewayWorld) -> None:
    async with Sender(world, world.context()) as stranger:
        assert (await stranger.post("/enrol?x=1", b"{}", {})).status == 400
        async with stranger._session.get(world.url + "/enrol") as response:
            assert response.status == 405


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b'{"token": "a"}', 400),
        (b'{"token": "a", "csr": 1}', 400),
        (b'{"token": "a", "csr": "b", "organization": "other"}', 400),
        (b'{"token": "a", "csr": "b"}', 400),
        (b"[" * 30_000, 400),
        (b"x" * 100_000, 413),
    ],
)
async def test_bad_enrolments_are_refused(world: GatewayWorld, content: bytes, status: int) -> None:
    async with Sender(world, world.context()) as stranger:
        assert (await stranger.post("/enrol", content, {})).status == status


async def test_guessing_tokens_is_slow(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    settings = GatewaySettings(enrolments_per_minute=3)
    async with gateway_world(tmp_path, settings, clock) as world, Sender(world, world.context()) as stranger:
        body = {"token": "byoc-enrol-" + "a" * 43, "csr": render_csr(new_private_key()).decode()}
        statuses = [(await stranger.json("/enrol", body)).status for _ in range(5)]
        assert statuses == [403, 403, 403, 429, 429]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["token", "csr", "x"]), inner),
    max_leaves=8,
)


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200)
def test_no_body_makes_the_parser_fail_otherwise(body: bytes) -> None:
    try:
        fields = _parse(body, ("token", "csr"))
    except InvalidInput:
        return
    content: Any = json.loads(body)
    assert {name: value.decode() for name, value in fields.items()} == content


@pytest.mark.parametrize(("days", "status"), [(2, 200), (29, 200), (32, 403)])
async def test_an_expired_certificate_renews_itself_for_a_month_and_does_nothing_else(
    tmp_path: Path, days: int, status: int
) -> None:
    clock = VirtualClock(SystemClock().now())
    async with (
        gateway_world(tmp_path, clock=clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        clock.step_wall(days * 86_400)
        answer = await sender.json("/renew", {"csr": render_csr(new_private_key()).decode()})
        assert answer.status == status, answer.text
        assert (await sender.write(ROWS)).status == 403


async def test_an_expired_and_revoked_certificate_renews_nothing(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().now())
    async with (
        gateway_world(tmp_path, clock=clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        clock.step_wall(2 * 86_400)
        await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "key lost")
        answer = await sender.json("/renew", {"csr": render_csr(new_private_key()).decode()})
        assert (answer.status, "revoked" in answer.text) == (403, True)
