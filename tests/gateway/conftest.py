"""A gateway and a sender that it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metering.gateway import intake
from tests.gateway.world import GatewayWorld, Sender, gateway_world


@pytest.fixture
def refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 is held back for a second; this is for tests that are not about it."""
    monkeypatch.setattr(intake, "_HOLD_BACK_SECONDS", 0.02)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as made:
        yield made


@pytest.fixture
async def sender(world: GatewayWorld) -> AsyncIterator[Sender]:
    async with Sender(world, world.context(world.credentials())) as made:
        yield made
