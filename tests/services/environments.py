"""Programs of PyPI in environments of their own: they want other libraries, or another Python, than we do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.services.errors import ServiceUnavailable
from tests.services.kafka_jars import cache_folder, locked

INSTALL_TIMEOUT_SECONDS = 900


def environment(name: str, requirements: Path, python: str = sys.executable) -> Path:
    """The folder of an environment with what is required, made on first use. Raises ServiceUnavailable."""
    folder = cache_folder() / name
    if not _mark(folder).exists():
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not _mark(folder).exists():  # else another process had the lock before us
                _install(folder, requirements, python)
    return folder


def _mark(folder: Path) -> Path:
    return folder / ".complete"  # written last: an installation that was broken off begins again


def _install(folder: Path, requirements: Path, python: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    made = ["venv", "--quiet", "--python", python, str(folder)]
    filled = ["pip", "install", "--quiet", "--python", str(folder / "bin/python"), "--compile-bytecode"]
    try:
        for command in (made, [*filled, "--require-hashes", "-r", str(requirements)]):
            subprocess.run(
                [uv, *command], check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS
            )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as failure:
        reason = getattr(failure, "stderr", None) or failure
        raise ServiceUnavailable(f"{folder.name} could not be installed: {reason}") from failure
    _mark(folder).touch()
