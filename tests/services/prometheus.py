"""Prometheus, as a server or in agent mode: the peer of the benchmarks and a foreign sender in tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.http_service import HttpService, run_http_service
from tests.services.process import find_program


@contextmanager
def run_prometheus(
    folder: Path, config: str, flags: Sequence[str] = (), *, agent: bool = False
) -> Iterator[HttpService]:
    """Prometheus 2 with `config` as its prometheus.yml; raises ServiceUnavailable, ServiceFailed.

    The configuration stays at `<folder>/prometheus.yml`: rewrite it and `process.restart()` to change it.
    """
    program = find_program("prometheus", how_to_get="apt-get install prometheus")
    config_path = folder / "prometheus.yml"
    config_path.write_text(config)
    storage = folder / "data"
    mode = (
        ["--enable-feature=agent", f"--storage.agent.path={storage}"]
        if agent
        else [f"--storage.tsdb.path={storage}"]
    )

    def command_on(port: int) -> list[str]:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        at_the_end = "--storage.remote.flush-deadline=1s"  # a receiver that is gone by then is not waited for
        return [program, f"--config.file={config_path}", listen, at_the_end, *mode, *flags]

    with run_http_service("prometheus", folder, command_on, "/-/ready") as service:
        yield service
