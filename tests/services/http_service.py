"""What Prometheus, Alertmanager and vmagent have in common: one HTTP port and a readiness page."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.services.errors import ServiceFailed
from tests.services.process import ServiceProcess, ServiceSpec, free_ports


@dataclass(frozen=True, slots=True)
class HttpService:
    """A running server; `process` stops, kills and restarts it on the same port and data."""

    process: ServiceProcess
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        """Body of a 2xx answer; raises ServiceFailed for any other status, OSError when it is down."""
        return fetch(self.port, path)


def fetch(port: int, path: str, *, timeout_seconds: float = 2.0) -> bytes:
    # http.client, as urllib would go through a proxy named in the environment
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise ServiceFailed(f"GET {path} on port {port} answered {answer.status}: {body[:200]!r}")
    return body


@contextmanager
def run_http_service(
    name: str, folder: Path, command_on: Callable[[int], Sequence[str]], ready_path: str
) -> Iterator[HttpService]:
    """Run `command_on(port)` until the block ends; ready when `ready_path` answers 2xx."""
    (port,) = free_ports(1)
    spec = ServiceSpec(
        name=name,
        command=command_on(port),
        folder=folder,
        probe=lambda: _probe(port, ready_path),
    )
    with ServiceProcess(spec) as process:
        yield HttpService(process, port)


def _probe(port: int, ready_path: str) -> None:
    fetch(port, ready_path, timeout_seconds=1.0)
