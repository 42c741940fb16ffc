"""The answer to a push of ours: signed, true about the log, checkable with the authority's certificate alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from collector.wire.errors import WireError
from collector.wire.headers import CONTENT_TYPE_RW2, PushHeaders
from collector.wire.receipt import (
    RECEIPT_KEYS_PATH,
    KeySet,
    PushName,
    Receipt,
    Signed,
    parse_answer,
    parse_key_set,
    verify,
)
from collector.wire.snappy import compress
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from kernel.identity.receipt_key import RECEIPT_KEY_FILE, open_receipt_key
from kernel.ids import CollectorId
from kernel.log.memory import MemoryLog
from metering.gateway.refusals import RefusedPushes
from metering.record import LIVE_TOPIC
from metering.refusal import REFUSALS_TOPIC, refusal_record
from tests.gateway.messages import encode_rw2
from tests.gateway.world import Answer, GatewayWorld, Sender, gateway_world

NOW = SystemClock().now_ms()
BODY = compress(encode_rw2([((("__name__", "up"),), [(NOW, 1.0), (NOW + 1, 2.0)])]))
PUSH = PushHeaders(7, 3, part=2)


async def push(sender: Sender) -> Signed[Receipt]:
    headers = {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "snappy", **PUSH.render()}
    answer = await sender.post("/api/v1/write", BODY, headers)
    assert answer.status == 200
    assert answer.written == ("2", "0", "0")
    assert answer.headers["Content-Type"].startswith("application/json")
    receipt, refused = parse_answer(answer.text.encode())
    assert refused == []
    return receipt


async def keys(world: GatewayWorld, sender: Sender) -> KeySet:
    answer = await sender.get(RECEIPT_KEYS_PATH)
    assert answer.status == 200
    return parse_key_set(answer.text.encode(), world.identity.authority.certificate_pem)


async def test_a_receipt_says_who_what_and_where_and_is_signed(world: GatewayWorld, sender: Sender) -> None:
    signed = await push(sender)
    verify(signed, await keys(world, sender))
    receipt = signed.content
    assert receipt.name == PushName("acme", "prod", "collector-1", PUSH.lane.value, 7, 3, 2)
    assert (receipt.sha256, receipt.samples) == (hashlib.sha256(BODY).hexdigest(), 2)
    assert receipt.log == ((LIVE_TOPIC, 0, 0),)
    again = await push(sender)
    assert again.content.log == ((LIVE_TOPIC, 0, 1),), "a repeat is appended again; the lake knows it"


async def test_what_is_changed_in_a_receipt_is_found(world: GatewayWorld, sender: Sender) -> None:
    signed, known = await push(sender), await keys(world, sender)
    for changed in (
        replace(signed.content, samples=3),
        replace(signed.content, log=((LIVE_TOPIC, 0, 9),)),
        replace(signed.content, name=replace(signed.content.name, sequence=4)),
    ):
        with pytest.raises(WireError):
            verify(replace(signed, content=changed), known)


async def test_a_key_that_the_authority_did_not_certify_is_refused(world: GatewayWorld, sender: Sender) -> None:
    answer = await sender.get(RECEIPT_KEYS_PATH)
    document = json.loads(answer.text)
    document["keys"][0]["public"] = base64.b64encode(bytes(32)).decode()
    with pytest.raises(WireError):
        parse_key_set(json.dumps(document).encode(), world.identity.authority.certificate_pem)


async def test_a_receipt_key_needs_a_certificate(world: GatewayWorld) -> None:
    async with Sender(world, world.context()) as stranger:
        assert (await stranger.get(RECEIPT_KEYS_PATH)).status == 403


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = open_receipt_key(tmp_path)
    path = tmp_path / RECEIPT_KEY_FILE
    assert open_receipt_key(tmp_path).private_bytes_raw() == first.private_bytes_raw()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [RECEIPT_KEY_FILE]
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match="0600"):
        open_receipt_key(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_damaged_key_is_said_not_replaced(tmp_path: Path, content: bytes) -> None:
    """A new key would make the old receipts look forged to who keeps the list of keys."""
    path = tmp_path / RECEIPT_KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match="receipt key"):
        open_receipt_key(tmp_path)
    assert path.read_bytes() == content


async def test_a_refusal_is_told_until_the_collector_has_heard(tmp_path: Path) -> None:
    log = MemoryLog()
    await log.ensure_topics({LIVE_TOPIC: 1, REFUSALS_TOPIC: 1})
    writer = await log.writer()
    async with gateway_world(tmp_path, writer=writer, log=log) as world:
        reading = asyncio.create_task(required(world.server.refused).run())
        async with Sender(world, world.context(world.credentials())) as sender:
            await push(sender)
            reader = await log.reader("lake", [LIVE_TOPIC], since_ms=0)
            (poisoned,) = await reader.poll(10, 0.1)
            await writer.append(REFUSALS_TOPIC, [refusal_record(poisoned, "columns that are none")])
            answer = await told(sender, None)
            (refusal,) = parse_answer(answer.encode())[1]
            verify(refusal, await keys(world, sender))
            assert refusal.content.reason == "columns that are none"
            assert refusal.content.name == PushName("acme", "prod", "collector-1", PUSH.lane.value, 7, 3, 2)
            offset = json.loads(answer)["refused"][0]["offset"]
            assert "refused" not in (await write(sender, None)).text, "not at each push, if it says nothing"
            assert "refused" not in (await write(sender, offset)).text
        async with Sender(world, world.context(world.credentials(collector=CollectorId("another")))) as another:
            assert "refused" not in (await write(another, None)).text
        reading.cancel()


async def write(sender: Sender, seen: int | None) -> Answer:
    headers = {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "snappy"}
    return await sender.post("/api/v1/write", BODY, headers | replace(PUSH, refused_seen=seen).render())


async def told(sender: Sender, seen: int | None) -> str:
    for _ in range(500):
        text = (await write(sender, seen)).text
        if "refused" in text:
            return text
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was told")


def required(found: RefusedPushes | None) -> RefusedPushes:
    assert found is not None
    return found
