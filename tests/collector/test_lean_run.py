"""A running collector holds what it runs by, and nothing else: every library costs each customer its megabytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config

pytestmark = pytest.mark.slow

# Commands, their drawing, and what only some settings need.
NEVER = {
    "aiohttp",
    "attr",
    "click",
    "collector.cli",
    "collector.discovery.http",
    "collector.discovery.kubernetes",
    "collector.history.backfill",
    "collector.remote_write.sender",
    "console",
    "google",
    "pandas",
    "pyarrow.compute",
    "pydantic_settings",
    "pygments",
    "rich",
    "typer",
}
# Tells at its end which modules it has: what `python -m collector.running` does, and no more.
CODE = """
import atexit, sys
def tell():
    with open({told!r}, "w") as file:
        file.write(" ".join(name for name, module in sys.modules.items() if module is not None))
atexit.register(tell)
from collector.running import main
sys.exit(main([{config!r}, "INFO"]))
"""


async def test_a_run_with_pushes_and_enrolment_loads_no_library_it_can_do_without(tmp_path: Path) -> None:
    told = tmp_path / "modules"
    async with run_gateway(tmp_path) as gateway, run_target(Page(b"milvus_a 1\n")) as port:
        config = write_config(tmp_path, gateway.url, scrape_configs=[static_job(port)], health={"port": 0})
        code = CODE.format(told=str(told), config=str(config))
        process = subprocess.Popen([sys.executable, "-c", code])
        try:
            await until(lambda: len(gateway.rows()) >= 12)
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    loaded = set(told.read_text().split())
    assert {"collector.app", "ssl"} <= loaded
    assert loaded & NEVER == set()


def test_a_run_whose_settings_are_refused_says_so_as_any_command_does(tmp_path: Path) -> None:
    config = tmp_path / "collector.yaml"
    config.write_text("gateway: {url: 'http://no-tls'}\n")
    words = [sys.executable, "-m", "collector", "run", "-c", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("refused: ")
    assert "gateway.url" in done.stderr
    assert "Traceback" not in done.stderr
