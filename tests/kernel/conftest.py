"""The kernel's tests read the environment; what asks for real services is no setting and stays out of sight."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _only_their_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BYOC_REQUIRE_SERVICES", raising=False)
