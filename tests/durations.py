"""A plugin: tests that are known to take long are slow ones, so that the fast ones stay below two minutes.

`durations.txt` names them, a test on a line without its parameters: `make durations` writes it anew, with all that
took more than `LONG_SECONDS` together.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

LONG_SECONDS = 0.25
LIST = Path(__file__).with_name("durations.txt")
# Worlds that are made once in a session, for seconds: whoever of the tests asks first pays for it.
WORLDS = frozenset({"original", "original_filled", "original_corrected", "original_credited"})


@cache
def known() -> frozenset[str]:
    """The tests that take long."""
    return frozenset(LIST.read_text(encoding="utf-8").split())


def name_of(nodeid: str) -> str:
    """A test without its parameters."""
    return nodeid.partition("[")[0]


@pytest.hookimpl(tryfirst=True)  # before any is chosen by its marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if name_of(item.nodeid) in known() or WORLDS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def is_there(name: str) -> bool:
    """Whether there is such a test, as a function or (a state machine's) as a class."""
    path, *_, test = name.split("::")
    file = LIST.parents[1] / path
    content = file.read_text(encoding="utf-8") if file.exists() else ""
    if test == "runTest":
        return f"{name.split('::')[1]} = " in content
    return f"def {test}(" in content


_seconds: dict[str, float] = defaultdict(float)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-durations", action="store_true", help="write durations.txt from this run")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Each test's own time, its fixtures' included."""
    _seconds[name_of(report.nodeid)] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In the process that has every report."""
    if session.config.getoption("--write-durations") and not hasattr(session.config, "workerinput"):
        measured = {name for name, seconds in _seconds.items() if seconds >= LONG_SECONDS}
        gone = {name for name in known() if not is_there(name)}
        LIST.write_text("\n".join(sorted(measured | known() - gone)) + "\n", encoding="utf-8")
