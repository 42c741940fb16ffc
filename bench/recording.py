"""Pages of a real Milvus, recorded while a workload inserts and searches; nothing of them is kept.

The server is the one that `python -m provisioner.local.install 2.3.5` installs, as in the demo.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from bench.machine import note
from bench.process import ProgramFailed
from provisioner.local import workload
from provisioner.local.install import InstallFailed, install
from provisioner.local.server import LocalServer
from provisioner.spec import sized
from tests.services.errors import ServiceUnavailable

VERSION = "2.3.5"
START_SECONDS = 120.0
ROWS = "1000"


@contextmanager
def recorded_pages(count: int, every_seconds: float) -> Iterator[tuple[Path, int]]:
    """A folder of `count` pages that all differ, and the samples of the last. Raises ServiceUnavailable."""
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        folder = Path(text)
        pages = folder / "pages"
        pages.mkdir()
        server = LocalServer(folder / "milvus")
        try:
            python = install(VERSION).python
        except InstallFailed as error:
            raise ServiceUnavailable(f"no Milvus: {error}") from error
        server.start(sized("1cu", VERSION))
        try:
            with _workload(python, _endpoint(server)):
                last = _record(server, pages, count, every_seconds)
        finally:
            server.remove()
        yield pages, sum(bool(line) and not line.startswith(b"#") for line in last.splitlines())


def _endpoint(server: LocalServer) -> str:
    until = time.monotonic() + START_SECONDS
    while not (seen := server.observe()).ready:
        if time.monotonic() > until:
            raise ProgramFailed(f"the Milvus is not healthy after {START_SECONDS:g} s: {seen.detail}")
        time.sleep(0.2)
    assert seen.endpoint
    return seen.endpoint


@contextmanager
def _workload(python: Path, endpoint: str) -> Iterator[None]:
    """Inserts, then searches without a pause, until the pages are there."""
    words = [str(python), str(workload.__file__), "--port", endpoint.rpartition(":")[2]]
    child = subprocess.Popen([*words, "--rows", ROWS, "--seconds", "600"], stdout=subprocess.DEVNULL)
    try:
        yield
        if child.poll() is not None:
            raise ProgramFailed(f"the workload ended with {child.returncode}")
    finally:
        child.terminate()
        child.wait()


def _record(server: LocalServer, folder: Path, count: int, every_seconds: float) -> bytes:
    url = f"http://127.0.0.1:{server.ports()['metrics_port']}/metrics"
    last, until = b"", time.monotonic() + START_SECONDS
    while b"milvus_querynode_sq_req_count" not in last:  # the searches have begun: the page has its full size
        if time.monotonic() > until:
            raise ProgramFailed("the workload searches nothing")
        time.sleep(0.2)
        last = _page(url)
    number = 0
    while number < count:
        time.sleep(every_seconds)
        page = _page(url)
        if page != last:
            (folder / f"{number:04}").write_bytes(page)
            last, number = page, number + 1
    note(f"milvus: {count} pages of {len(last)} bytes")
    return last


def _page(url: str) -> bytes:
    with urlopen(url, timeout=30) as answer:
        page: bytes = answer.read()
    return page
