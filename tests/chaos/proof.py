"""What `byoc collector verify` says, by the command itself, read back from its lines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.program import ROOT

_COUNTS = re.compile(
    r"(\w+) epoch (\d+): 1 to (\d+): (\d+) with a receipt, (\d+) in gap records, (\d+) waiting", re.ASCII
)
_GAP = re.compile(r"(\w+) epoch (\d+): gap numbers? (\d+)(?: to (\d+))?, (\w+)", re.ASCII)
_UNWRITTEN = re.compile(r"(\w+): (\d+) samples never had a number", re.ASCII)


@dataclass
class Boot:
    """Of one lane and epoch. `gaps`: numbers by reason; `untold`: of these, what the vendor was not told yet."""

    last: int
    proven: int
    waiting: int
    gaps: Counter[str] = field(default_factory=Counter)
    untold: int = 0


@dataclass
class Proof:
    """`boots` by (lane, epoch); `unwritten`: samples that the disk did not take, by lane."""

    holds: bool
    text: str
    boots: dict[tuple[str, int], Boot]
    unwritten: dict[str, int]


def verify(config: Path, *words: str) -> Proof:
    """Run the command on a collector's folder, whether or not the collector runs."""
    done = subprocess.run(
        [sys.executable, "-m", "console", "collector", "verify", "-c", str(config), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    boots: dict[tuple[str, int], Boot] = {}
    for line in done.stdout.splitlines():
        if found := _COUNTS.fullmatch(line):
            lane, epoch, last, proven, _, waiting = found.groups()
            boots[lane, int(epoch)] = Boot(int(last), int(proven), int(waiting))
        elif found := _GAP.match(line):
            lane, epoch, first, last, reason = found.groups()
            numbers, boot = int(last or first) - int(first) + 1, boots[lane, int(epoch)]
            boot.gaps[reason] += numbers
            boot.untold += numbers if "not told" in line else 0
    unwritten = {found[1]: int(found[2]) for found in map(_UNWRITTEN.match, done.stdout.splitlines()) if found}
    return Proof(done.returncode == 0, done.stdout + done.stderr, boots, unwritten)
