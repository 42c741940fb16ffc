"""Alertmanager, one node without gossip: the peer of our notification pipeline."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.http_service import HttpService, run_http_service
from tests.services.process import find_program


@contextmanager
def run_alertmanager(folder: Path, config: str, flags: Sequence[str] = ()) -> Iterator[HttpService]:
    """Alertmanager with `config` as its alertmanager.yml; raises ServiceUnavailable, ServiceFailed."""
    program = find_program(
        "prometheus-alertmanager", "alertmanager", how_to_get="apt-get install prometheus-alertmanager"
    )
    config_path = folder / "alertmanager.yml"
    config_path.write_text(config)

    def command_on(port: int) -> list[str]:
        return [
            program,
            f"--config.file={config_path}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            *flags,
        ]

    with run_http_service("alertmanager", folder, command_on, "/-/ready") as service:
        yield service
