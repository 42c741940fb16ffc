"""Server processes that outlive the vendor's process: launched into a session of their own, found again in /proc.

A pid alone says nothing after a restart: it may have been given to another program. A process is the same one
if its pid, its start time (clock ticks since boot) and the machine's boot are the same.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernel.errors import Retry

_PROC = Path("/proc")
# The shell only forks and ends, so that the server is adopted by init and never becomes our zombie.
_LAUNCH = 'log="$1"; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'


class LaunchFailed(Retry):
    """The process could not be started."""


class DoesNotEnd(Retry):
    """The process is alive after SIGKILL and a wait."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot of this machine. `start_ticks` as in /proc/<pid>/stat, field 22."""

    pid: int
    start_ticks: int
    boot: str

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, record: Mapping[str, Any] | None) -> ProcessIdentity | None:
        """From a stored record; None if it is not one."""
        try:
            return cls(int(record["pid"]), int(record["start_ticks"]), str(record["boot"])) if record else None
        except (KeyError, TypeError, ValueError):
            return None

    def is_alive(self) -> bool:
        """Whether that very process still runs (a zombie does not)."""
        return identify(self.pid) == self


def launch(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> ProcessIdentity:
    """Start `command` detached, its output appended to `log`. Raises LaunchFailed."""
    shell = subprocess.run(
        ["/bin/sh", "-c", _LAUNCH, "sh", str(log), *command],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=30,
        check=False,
    )
    pid = shell.stdout.strip()
    identity = identify(int(pid)) if pid.isdigit() else None
    if identity is None:
        raise LaunchFailed(f"{command[0]} ended at once: see {log}")
    return identity


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the live process with that pid; None if there is none, or only a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the command's name may hold spaces and brackets
    if fields[0] in {"Z", "X"}:
        return None
    return ProcessIdentity(pid, int(fields[19]), boot())


def boot() -> str:
    """The id of this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty if it is gone or another user's."""
    try:
        content = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in content.split(b"\0") if item)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def find_by_environment(variable: str, value: str) -> Iterator[ProcessIdentity]:
    """Live processes of our user started with `variable=value`: how one is found whose record was never written.

    Root can read everyone's environment, and anyone may write what they like into their own.
    """
    wanted = f"{variable}={value}".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != os.geteuid():
                continue
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0") and (identity := identify(int(entry.name))):
            yield identity


def end(identity: ProcessIdentity, grace_seconds: float, kill_seconds: float) -> bool:
    """Terminate that process, and no other that took its pid; kill it after the grace. Whether it is gone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return True
    try:
        if not identity.is_alive():  # asked after the handle is open: from here on the pid can't be another's
            return True
        return _signalled(handle, signal.SIGTERM, grace_seconds) or _signalled(handle, signal.SIGKILL, kill_seconds)
    finally:
        os.close(handle)


def _signalled(handle: int, number: signal.Signals, seconds: float) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return True
    return bool(select.select([handle], [], [], seconds)[0])
