"""Plugins of the whole test suite."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine
from xdist.scheduler import LoadScopeScheduling

from tests.order import LongestFirst, seconds

# How long an example takes depends on who else is on the machine, and is not what these tests are about.
settings.register_profile("byoc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("byoc")
engine.MAX_SHRINKING_SECONDS = 60  # not 300: a law that fails says with what before its time is over

pytest_plugins = ["tests.services.fixtures", "tests.databases", "tests.durations"]


def pytest_configure() -> None:
    # Else the first async test makes a loop of its own that nobody closes, and a later test is blamed for it.
    asyncio.set_event_loop(None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling | None:
    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)  # after the fixtures have brought together what shares them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: -seconds(item.nodeid))


@pytest.fixture(autouse=True)
def restored_logs() -> Iterator[None]:
    """A command that was run in this process sets logs up; the next test begins without."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
