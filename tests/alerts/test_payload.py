"""The body and its signature, beside what a real Alertmanager sends and another library signs."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from alerts.labels import fingerprint
from alerts.outbox import make_webhook_id
from alerts.payload import AlertEntry, Notification, render_payload, render_time
from alerts.settings import parse_secret
from alerts.signature import sign
from tests.alerts.receiver import SECRET
from tests.effort import costly
from tests.services.fixtures import StartAlertmanager

LABELS = {"alertname": "Hot", "organization": "org-a", "room": "attic", "severity": "critical"}
ANNOTATIONS = {"summary": "attic is at 35"}
STARTS_MS = 1_767_225_600_120


def test_the_signature_of_the_specification() -> None:
    keys = (parse_secret(SECRET, "test"),)
    body = b'{"test": 2432232314}'
    assert (
        sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@costly(50)
@given(st.binary(min_size=24, max_size=64), st.text(max_size=50), st.integers(0, 2**33))
def test_another_library_signs_the_same(key: bytes, body: str, timestamp: int) -> None:
    try:
        raw = body.encode()
    except UnicodeEncodeError:
        return
    other = Webhook(key).sign("msg_1", datetime.fromtimestamp(timestamp, UTC), raw.decode())
    assert sign((key,), "msg_1", timestamp, raw) == other


def test_while_a_secret_is_rotated_both_sign() -> None:
    old, new = b"o" * 24, b"n" * 24
    both = sign((new, old), "msg_1", 1, b"{}").split()
    assert both == [sign((new,), "msg_1", 1, b"{}"), sign((old,), "msg_1", 1, b"{}")]


def test_the_id_of_a_message_is_of_its_changes_alone() -> None:
    first = make_webhook_id("oncall", "org-a", "{}:{}", 7, 1)
    assert first == make_webhook_id("oncall", "org-a", "{}:{}", 7, 1)
    others = [
        ("second", "org-a", 7, 1),
        ("oncall", "org-b", 7, 1),
        ("oncall", "org-a", 8, 1),
        ("oncall", "org-a", 7, 2),
    ]
    assert len({make_webhook_id(a, b, "{}:{}", c, d) for a, b, c, d in others} | {first}) == 5


def test_times_print_as_go_prints_them() -> None:
    assert render_time(STARTS_MS) == "2026-01-01T00:00:00.12Z"
    assert render_time(1_767_225_600_000) == "2026-01-01T00:00:00Z"


def ours(*, resolved: bool) -> dict[str, Any]:
    entry = AlertEntry(
        fingerprint(LABELS),
        LABELS,
        ANNOTATIONS,
        "http://console/alerts",
        STARTS_MS,
        STARTS_MS + 5000 if resolved else None,
    )
    key = '{}:{alertname="Hot", organization="org-a"}'
    body: dict[str, Any] = json.loads(render_payload(Notification("oncall", key, [entry], 0, "http://console")))
    return body


@pytest.mark.services
async def test_the_keys_are_those_of_a_real_alertmanager(start_alertmanager: StartAlertmanager) -> None:
    """The same alert through Alertmanager: same keys in the same order, same types, same fingerprint and group."""
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        received.put_nowait(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = (
        "route: {receiver: oncall, group_by: [alertname, organization], group_wait: 0s}\n"
        f"receivers: [{{name: oncall, webhook_configs: [{{url: 'http://127.0.0.1:{runner.addresses[0][1]}/'}}]}}]\n"
    )
    service = await asyncio.to_thread(start_alertmanager, config)
    alert = {"labels": LABELS, "annotations": ANNOTATIONS, "generatorURL": "http://console/alerts"}
    await asyncio.to_thread(_post, f"{service.url}/api/v2/alerts", [alert])
    theirs = await asyncio.wait_for(received.get(), 30)
    await runner.cleanup()
    mine = ours(resolved=False)
    assert list(mine) == list(theirs)
    assert list(mine["alerts"][0]) == list(theirs["alerts"][0])
    same = ("receiver", "status", "groupLabels", "commonLabels", "commonAnnotations", "version", "groupKey")
    assert {key: mine[key] for key in same} == {key: theirs[key] for key in same}
    assert mine["truncatedAlerts"] == theirs["truncatedAlerts"] == 0
    for key in ("status", "labels", "annotations", "endsAt", "generatorURL", "fingerprint"):
        assert mine["alerts"][0][key] == theirs["alerts"][0][key]


def _post(url: str, body: object) -> None:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_a_resolved_alert_has_both_times() -> None:
    body = ours(resolved=True)
    assert body["status"] == body["alerts"][0]["status"] == "resolved"
    assert body["alerts"][0]["startsAt"] < body["alerts"][0]["endsAt"]
