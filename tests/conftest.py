"""Plugins of the whole test suite."""

import asyncio

pytest_plugins = ["tests.services.fixtures"]


def pytest_configure() -> None:
    # Else the first async test makes a loop of its own that nobody closes, and a later test is blamed for it.
    asyncio.set_event_loop(None)
