"""Plugins of the whole test suite."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long an example takes depends on who else is on the machine, and is not what these tests are about.
settings.register_profile("byoc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("byoc")

pytest_plugins = ["tests.services.fixtures", "tests.databases"]


def pytest_configure() -> None:
    # Else the first async test makes a loop of its own that nobody closes, and a later test is blamed for it.
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def restored_logs() -> Iterator[None]:
    """A command that was run in this process sets logs up; the next test begins without."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
