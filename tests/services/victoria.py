"""VictoriaMetrics, one node: a receiver of remote write in tests, and a peer of the benchmarks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.http_service import HttpService, run_http_service
from tests.services.process import find_program


@contextmanager
def run_victoria(folder: Path, flags: Sequence[str] = ()) -> Iterator[HttpService]:
    """VictoriaMetrics with its data below `folder`; raises ServiceUnavailable, ServiceFailed."""
    program = find_program(
        "victoria-metrics", "victoria-metrics-prod", how_to_get="apt-get install victoria-metrics"
    )

    def command_on(port: int) -> list[str]:
        return [
            program,
            f"-storageDataPath={folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.latencyOffset=0s",
            *flags,
        ]

    with run_http_service("victoria-metrics", folder, command_on, "/health") as service:
        yield service
