"""A child process that is ready when `start` returns, keeps its ports and data, and never outlives us."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.services.errors import ServiceFailed, ServiceUnavailable

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_TAIL_LINES = 30
POLL_SECONDS = 0.05

# Below Linux's ephemeral range (32768 up), so that no outgoing connection takes the port of a server that
# is down for a restart, nor connects to itself while it retries that port.
PORT_RANGE = range(15_000, 32_000)
# Each worker of the tests has ports of its own: two that pick at once never pick the same.
_WORKERS = 8
_own_ports = PORT_RANGE[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _WORKERS :: _WORKERS]
_ports_given: set[int] = set()
_dice = random.Random()  # not the one that laws set back for each example

# The kernel sends the death signal when the *thread* that forked ends, so one thread forks and lives as long
# as we do. `start` may then be called from any thread, say by `asyncio.to_thread`.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="service-forker")


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What to run, and how to see that it is ready.

    `probe` raises any exception while the service is not ready, within a second or so.
    `account` is the user to run as, None for ours. `death_signal` is what the service gets when we die.
    """

    name: str
    command: Sequence[str]
    folder: Path
    probe: Callable[[], None]
    ready_timeout_seconds: float = 120.0
    stop_timeout_seconds: float = 15.0
    environment: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL


class ServiceProcess:
    """One service in its own process group; output goes to `<folder>/<name>.log`.

    All methods block; from a coroutine call `await asyncio.to_thread(service.restart)`.
    """

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self.log_path = spec.folder / f"{spec.name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises ServiceFailed when the service is not running."""
        if self._child is None:
            raise ServiceFailed(f"{self.spec.name} is not running: start it first")
        return self._child.pid

    def start(self) -> None:
        """Start and wait until the probe passes; raises ServiceFailed, and leaves nothing running then."""
        if self._child is not None:
            raise ServiceFailed(f"{self.spec.name} already runs as process {self._child.pid}")
        self._child = _fork(self.spec, self.log_path)
        try:
            self._await_ready(self._child)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask it to end, and kill it when it does not in time; does nothing when it is not running."""
        if self._child is None:
            return
        self._child.send_signal(self.spec.stop_signal)
        try:
            self._child.wait(self.spec.stop_timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None

    def kill(self) -> None:
        """SIGKILL to it and all that it started, and wait until they are gone; nothing when it is not running."""
        if self._child is None:
            return
        if self._child.poll() is None:  # unreaped, so the group id is still its own
            apart = _descendants(self._child.pid)  # PostgreSQL's children have groups of their own
            os.killpg(self._child.pid, signal.SIGKILL)
            for pid in filter(_is_running, apart):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            while any(map(_is_running, apart)):  # until then they hold what the next one needs, as shared memory
                time.sleep(POLL_SECONDS)
        self._child.wait()
        self._child = None

    def restart(self) -> None:
        """Stop and start again on the same ports and data."""
        self.stop()
        self.start()

    def _await_ready(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.spec.ready_timeout_seconds
        while True:
            if child.poll() is not None:
                raise ServiceFailed(f"{self.spec.name} ended with {child.returncode}\n{tail(self.log_path)}")
            try:
                return self.spec.probe()
            except Exception as not_ready:
                if time.monotonic() > deadline:
                    waited = f"not ready after {self.spec.ready_timeout_seconds:g} s: {not_ready}"
                    raise ServiceFailed(f"{self.spec.name} {waited}\n{tail(self.log_path)}") from not_ready
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_to_end(spec: ServiceSpec) -> None:
    """Run a one-off command, say to format a disk; raises ServiceFailed unless it ends with 0."""
    log_path = spec.folder / f"{spec.name}.log"
    child = _fork(spec, log_path)
    try:
        child.wait(spec.ready_timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.returncode != 0:
        raise ServiceFailed(f"{spec.name} ended with {child.returncode}\n{tail(log_path)}")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, and that this process has not given out before."""
    ports: list[int] = []
    while len(ports) < count:
        port = _dice.choice(_own_ports)
        if port not in _ports_given and _is_free(port):
            _ports_given.add(port)
            ports.append(port)
    return ports


def find_program(*names: str, how_to_get: str) -> str:
    """Path of the first of `names` beside our Python or in PATH; raises ServiceUnavailable."""
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    for name in names:
        if path := shutil.which(name, path=places):
            return path
    raise ServiceUnavailable(f"no {' or '.join(names)} in PATH: {how_to_get}")


def tail(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_descendants(child))]


def _is_running(pid: int) -> bool:
    """Neither gone nor only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _fork(spec: ServiceSpec, log_path: Path) -> subprocess.Popen[bytes]:
    launch = [sys.executable, "-I", "-S", str(LAUNCHER)]
    bound = [str(os.getpid()), str(int(spec.death_signal)), spec.account or ""]
    command = [*launch, *bound, *spec.command]

    def popen() -> subprocess.Popen[bytes]:
        with log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=spec.folder,
                env={**os.environ, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    return _forker.submit(popen).result()
