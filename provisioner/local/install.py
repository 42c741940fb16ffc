"""Installs a Milvus version: its own virtual environment and its unpacked server, in the user's cache.

    python -m provisioner.local.install 2.3.5

The packages are pinned with their hashes in `provisioner/milvus-<version>.lock`. A virtual environment can't be
moved, so it is built where it stays; the marker written last says that it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import InvalidInput, Retry, truncate

DEFAULT_VERSION = "2.3.5"
INSTALL_SECONDS = 900
_LOCKS = Path(__file__).parent.parent
Progress = Callable[[str], None]


class InstallFailed(Retry):
    """The packages could not be had. The cache is as before, or is built anew by the next call."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An installed Milvus: `folder` holds `venv/` (server package and client) and `server/bin/`."""

    version: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv/bin/python"

    @property
    def binaries(self) -> Path:
        return self.folder / "server/bin"

    @property
    def package_data(self) -> Path:
        """The folder with the server's configuration template."""
        found = sorted(self.folder.glob("venv/lib/python3*/site-packages/milvus/data"))
        if not found:
            raise InstallFailed(f"no Milvus package below {self.folder}: remove that folder and install again")
        return found[-1]

    @property
    def marker(self) -> Path:
        return self.folder / ".complete"


def supported_versions() -> list[str]:
    """The versions that have a lock file."""
    return sorted(path.stem.removeprefix("milvus-") for path in _LOCKS.glob("milvus-*.lock"))


def check_version(version: str, source: str = "cluster") -> str:
    """`version` if it can be installed. Raises InvalidInput."""
    if version not in supported_versions():
        raise InvalidInput.single(source, "version", repr(version), " or ".join(supported_versions()))
    return version


def installation(version: str) -> Installation:
    """Where that version is, or would be, installed: $XDG_CACHE_HOME/byoc/milvus-<version>."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Installation(version, cache / "byoc" / f"milvus-{version}")


def is_installed(version: str) -> bool:
    """Whether it is whole and of the present lock file."""
    try:
        return installation(version).marker.read_text() == _digest(_lock_file(version))
    except OSError:
        return False


def install(version: str, progress: Progress = lambda _: None) -> Installation:
    """The installation of `version`, made if it is not there. Blocking; safe to call from several processes.

    Raises InvalidInput (no such version), InstallFailed.
    """
    target = installation(check_version(version))
    if is_installed(version):
        return target
    with _exclusive(target.folder.with_name(target.folder.name + ".lock")):
        if not is_installed(version):
            _build(target, progress)
    return target


def _build(target: Installation, progress: Progress) -> None:
    if target.folder.exists():
        shutil.rmtree(target.folder)
    target.folder.mkdir(parents=True)
    progress(f"Milvus {target.version}: virtual environment and packages")
    _install_packages(target)
    progress(f"Milvus {target.version}: unpacking the server")
    _unpack(target)
    target.marker.write_text(_digest(_lock_file(target.version)))
    progress(f"Milvus {target.version}: installed in {target.folder}")


def _install_packages(target: Installation) -> None:
    locked = ["--require-hashes", "--only-binary", ":all:", "-r", str(_lock_file(target.version))]
    place = target.folder / "venv"
    uv = shutil.which("uv")
    if uv:
        try:
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
            _run([uv, "pip", "install", "--quiet", "--python", str(target.python), *locked])
            return
        except InstallFailed:  # a broken or very old uv must not stand in the way of pip
            shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True, symlinks=True)
    _run(
        [
            str(target.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            *locked,
        ]
    )


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"{Path(command[0]).name} did not finish: {error}") from error
    if done.returncode:
        raise InstallFailed(f"{Path(command[0]).name} failed: {truncate(done.stderr.strip()[-300:])}")


def _unpack(target: Installation) -> None:
    target.binaries.mkdir(parents=True)
    for packed in sorted((target.package_data / "bin").glob("*.lzma")):
        unpacked = target.binaries / packed.name.removesuffix(".lzma")
        with lzma.open(packed) as source, unpacked.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        unpacked.chmod(0o755)


def _lock_file(version: str) -> Path:
    return _LOCKS / f"milvus-{version}.lock"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """`python -m provisioner.local.install [VERSION]`."""
    version = arguments[0] if arguments else DEFAULT_VERSION
    try:
        install(version, lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    except (InvalidInput, InstallFailed) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, InvalidInput) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
