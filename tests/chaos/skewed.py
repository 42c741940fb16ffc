"""A `byoc` command with a wall clock that a file sets wrong: a process of its own, all else as it is.

    python -m tests.chaos.skewed seconds.txt collector.running collector.yaml INFO

`seconds.txt` holds by how many seconds the clock is wrong; who writes another number there steps it. Only the clock
that the product reads is wrong (`kernel.clock.SystemClock`); OpenSSL goes by the machine's.
"""

from __future__ import annotations

import runpy
import sys
from datetime import datetime, timedelta
from pathlib import Path

from kernel.clock import SystemClock


class FileClock(SystemClock):
    """The machine's clock, wrong by the seconds in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.wrong_seconds())

    def now_ms(self) -> int:
        return super().now_ms() + self.wrong_seconds() * 1000

    def wrong_seconds(self) -> int:
        return int(self.path.read_text())

    def step_to(self, seconds: int) -> None:
        """Wrong by so much from now on."""
        waiting = self.path.with_suffix(".part")
        waiting.write_text(str(seconds))
        waiting.replace(self.path)


def _run(path: Path, module: str, words: list[str]) -> None:
    right_now, right_ms, wrong = SystemClock.now, SystemClock.now_ms, FileClock(path)
    SystemClock.now = lambda self: right_now(self) + timedelta(seconds=wrong.wrong_seconds())  # type: ignore[method-assign]
    SystemClock.now_ms = lambda self: right_ms(self) + wrong.wrong_seconds() * 1000  # type: ignore[method-assign]
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
