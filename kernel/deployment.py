"""What a vendor-side command has in its hand: settings, and the adapter that stands behind each port.

`Deployment.embedded(folder)` keeps everything in one folder; `Deployment.from_file(path)` reads the `deployment`
section of the vendor's YAML file, where the same ports may stand on Kafka, S3 and PostgreSQL. Adapters are
made when first asked for, so that a command needs only the libraries and servers that it uses.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kernel.audit import AuditLog
from kernel.clock import Clock, SystemClock
from kernel.database import Database, sqlite_url
from kernel.deployment_settings import DeploymentSettings, LogSettings, ObjectsSettings
from kernel.settings import Section, anchored, load_section

if TYPE_CHECKING:
    from kernel.log import Log
    from kernel.objects import ObjectStore

C = TypeVar("C", bound=Section)


class Deployment:
    """One vendor side. Async methods belong to one event loop; `close` ends what was opened."""

    def __init__(self, settings: DeploymentSettings, clock: Clock, source: Path | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.source = source  # the YAML file that the settings came from
        self._database: Database | None = None
        self._log: Log | None = None
        self._log_opening = asyncio.Lock()
        self._objects: ObjectStore | None = None

    @classmethod
    def embedded(cls, folder: Path | None, clock: Clock | None = None) -> Deployment:
        """Everything in `folder` (None: the setting's), or as `BYOC_DEPLOYMENT__*` says. Raises InvalidInput."""
        settings = load_section("deployment", DeploymentSettings, None)
        chosen = settings if folder is None else settings.model_copy(update={"folder": folder})
        return cls(chosen, clock or SystemClock())

    @classmethod
    def from_file(cls, path: Path, clock: Clock | None = None) -> Deployment:
        """From the section `deployment` of a YAML file and `BYOC_DEPLOYMENT__*`. Raises InvalidInput.

        Relative paths are taken from the folder of the file.
        """
        settings = load_section("deployment", DeploymentSettings, path)
        return cls(anchored(settings, path.absolute().parent), clock or SystemClock(), path)

    def section(self, name: str, model: type[C]) -> C:
        """The settings of a component: its section of the file, the environment, or the defaults.

        `BYOC_<NAME>__<FIELD>` wins over the file. Relative paths are taken from the file's folder; without a file,
        from where the process runs. Raises InvalidInput.
        """
        section = load_section(name, model, self.source)
        return anchored(section, self.source.absolute().parent) if self.source else section

    @property
    def folder(self) -> Path:
        """Where the embedded adapters and the authority keep their files."""
        return self.settings.folder

    def make_folder(self) -> Path:
        """Make the folder, for our user alone if it is new: tenants' data and the audit log lie below it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.folder

    @property
    def authority_folder(self) -> Path:
        """The certificate authority's files."""
        return self.folder / "authority"

    @property
    def catalog_url(self) -> str:
        """The lake's catalog, a SQLAlchemy URL."""
        url = self.settings.lake.catalog_url
        return url.get_secret_value() if url else sqlite_url(self.folder / "catalog.sqlite")

    @property
    def warehouse(self) -> str:
        """The URI below which the lake's files lie."""
        return self.settings.lake.warehouse or (self.folder / "warehouse").absolute().as_uri()

    @property
    def database_url(self) -> str:
        """The database, a SQLAlchemy URL that may hold a password."""
        url = self.settings.database.url
        return url.get_secret_value() if url else sqlite_url(self.folder / "byoc.sqlite")

    def database(self) -> Database:
        """The database; the same object each time. Its schema is `console.migrate`'s business."""
        if self._database is None:
            url = self.settings.database.url
            self._database = Database(
                url.get_secret_value() if url else sqlite_url(self.make_folder() / "byoc.sqlite")
            )
        return self._database

    async def log(self) -> Log:
        """The log, ready; the same object each time. Raises LogUnavailable."""
        async with self._log_opening:
            if self._log is None:
                self.make_folder()
                self._log = await asyncio.to_thread(_open_log, self.settings.log, self.folder, self.clock)
            return self._log

    def objects(self) -> ObjectStore:
        """The object store; the same object each time."""
        if self._objects is None:
            self.make_folder()
            self._objects = _open_objects(self.settings.objects, self.folder)
        return self._objects

    def audit(self) -> AuditLog:
        """The audit log, in the database."""
        return AuditLog(self.database(), self.clock)

    async def close(self) -> None:
        """Close what was opened. Idempotent."""
        log, self._log = self._log, None
        database, self._database = self._database, None
        if log is not None:
            await log.close()
        if database is not None:
            await asyncio.to_thread(database.close)


def _open_log(settings: LogSettings, folder: Path, clock: Clock) -> Log:
    if settings.kind == "sqlite":
        from kernel.log.sqlite import SqliteLog

        return SqliteLog(
            folder / "log.sqlite",
            clock,
            max_record_bytes=settings.max_record_bytes,
            lease_seconds=settings.lease_seconds,
            retention_seconds=settings.retention_hours * 3600,
        )
    from kernel.log.kafka import KafkaLog

    return KafkaLog(settings.kafka.bootstrap_servers, settings.kafka)


def _open_objects(settings: ObjectsSettings, folder: Path) -> ObjectStore:
    if settings.kind == "local":
        from kernel.objects.local import LocalObjects

        return LocalObjects(folder / "objects")
    from kernel.objects.s3 import S3Objects

    return S3Objects(settings.s3)
