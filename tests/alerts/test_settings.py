"""Settings: receivers, secrets that do not show, addresses that are not called."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alerts.retries import Outcome
from alerts.settings import AlertSettings, is_public_address, is_public_host
from alerts.webhook import Endpoint, Message, WebhookSender
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from tests.alerts.receiver import SECRET, Receiver

ENDPOINT: dict[str, Any] = {"name": "oncall", "url": "https://pages.example.com/hook"}


def settings(**receiver: Any) -> AlertSettings:
    return AlertSettings.model_validate({"receivers": [ENDPOINT | {"secret": SECRET} | receiver]})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"url": "ftp://pages.example.com"}, "http"),
        ({"url": "https://user:word@pages.example.com"}, "without user"),
        ({"url": "https://"}, "host"),
        ({"url": "http://127.0.0.1/hook"}, "private address"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "private address"),
        ({"url": "http://localhost/"}, "private address"),
        ({"secret_env": "X"}, "exactly one"),
        ({"secret": None}, "exactly one"),
        ({"name": "No Name"}, "pattern"),
        ({"fallback": "oncall"}, "another receiver"),
        ({"fallback": "nobody"}, "another receiver"),
        ({"matchers": {"1x": "a"}}, "label name"),
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_a_receiver_is_refused_with_a_reason(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        settings(**change)


def test_fallbacks_go_in_no_circle() -> None:
    receivers = [
        ENDPOINT | {"name": name, "secret": SECRET, "fallback": other}
        for name, other in (("a1", "b1"), ("b1", "a1"))
    ]
    with pytest.raises(ValidationError, match="circle"):
        AlertSettings.model_validate({"receivers": receivers})


@pytest.mark.parametrize("secret", ["", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"])
def test_a_bad_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings(secret=secret).receivers[0].load_secrets()
    assert "hidden" in str(refused.value)
    assert not secret or secret not in str(refused.value)


def test_secrets_come_from_a_file_or_the_environment_and_never_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{SECRET}\n")
    monkeypatch.setenv("PAGE_SECRET", SECRET)
    assert len(settings(secret=None, secret_file=file).receivers[0].load_secrets()) == 2
    assert len(settings(secret=None, secret_env="PAGE_SECRET").receivers[0].load_secrets()) == 1
    with pytest.raises(InvalidInput, match="0 secrets"):
        settings(secret=None, secret_env="NOT_SET").receivers[0].load_secrets()
    assert SECRET not in repr(settings())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("::ffff:192.168.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public_address(ipaddress.ip_address(address)) is public
    assert is_public_host(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost.localdomain", "0x7f000001"])
async def test_a_private_receiver_is_not_called_whatever_it_is_called(receiver: Receiver, host: str) -> None:
    """Names and odd spellings of addresses are judged by what they resolve to, at each attempt."""
    sender = WebhookSender(SystemClock(), allow_private=False, retry_after_limit_ms=1000)
    endpoint = Endpoint(f"http://{host}:{receiver.port}/page", (b"k" * 24,), 5.0)
    attempt = await sender.send(endpoint, Message("msg_1", "{}"))
    await sender.close()
    assert attempt.outcome in {Outcome.FORBIDDEN, Outcome.UNAVAILABLE}
    assert receiver.requests == []
    assert receiver.bad_signatures == []
