"""The machine, its cores, and what a process has used of it. Linux alone: figures come from /proc."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CORES = os.sched_getaffinity(0)  # what we may use, before we pin ourselves


def note(text: str) -> None:
    """Progress, for a person: standard output is for the result."""
    print(text, file=sys.stderr, flush=True)


def describe_machine() -> str:
    """Processor, cores, kernel, Python and how busy the machine is."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    system = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {len(_CORES)} cores, {system}, load {load:.1f}"


def measured_core() -> int:
    """Where the measured process runs, alone of ours."""
    return min(_CORES)


def other_core() -> int:
    """Where everything else runs: targets, sinks, load. The same core on a machine with one."""
    return max(_CORES)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This thread, and what it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin_process(pid: int, core: int) -> None:
    """A process that runs already, with all its threads; those it makes later follow."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, those that ended too; steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def peak_bytes(pid: int) -> int:
    """The most memory that was resident at a time (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no VmHWM: it has ended")
