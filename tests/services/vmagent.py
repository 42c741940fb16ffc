"""vmagent: the peer of our collector and a foreign sender of remote write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.http_service import HttpService, run_http_service
from tests.services.process import find_program


@contextmanager
def run_vmagent(
    folder: Path, config: str, remote_write_url: str, flags: Sequence[str] = ()
) -> Iterator[HttpService]:
    """vmagent with `config` as its scrape configuration; raises ServiceUnavailable, ServiceFailed."""
    program = find_program("vmagent", "vmagent-prod", how_to_get="apt-get install victoria-metrics")
    config_path = folder / "scrape.yml"
    config_path.write_text(config)

    def command_on(port: int) -> list[str]:
        return [
            program,
            f"-promscrape.config={config_path}",
            f"-remoteWrite.url={remote_write_url}",
            f"-remoteWrite.tmpDataPath={folder / 'queue'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            *flags,
        ]

    with run_http_service("vmagent", folder, command_on, "/health") as service:
        yield service
