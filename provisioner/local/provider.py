"""The local provider: clusters are Milvus processes of this machine, each in a folder below its project's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from kernel.errors import Retry
from provisioner.lifecycle import State
from provisioner.local.exporter_process import end_exporter, ensure_exporter
from provisioner.local.server import LocalServer
from provisioner.ports import Observation, Placement
from provisioner.spec import ClusterSpec

P = ParamSpec("P")


class FolderFailed(Retry):
    """The machine refused a file operation: disk full, permissions."""


class LocalProvider:
    """Runs clusters below `folder`: `<folder>/<project>/clusters/<cluster>/`.

    The exporter of a project looks at `<folder>/<project>`.
    """

    def __init__(self, folder: Path, *, exporters: bool = True) -> None:
        self._folder = folder.absolute()
        self._exporters = exporters

    def project_folder(self, project: str) -> Path:
        """The folder that stands for the customer's VPC of that project."""
        return self._folder / project

    def server(self, placement: Placement) -> LocalServer:
        """The server of a cluster, whether it exists or not."""
        return LocalServer(self.project_folder(placement.project) / "clusters" / placement.cluster)

    async def start(self, placement: Placement, spec: ClusterSpec) -> None:
        if self._exporters:
            await self._blocking(ensure_exporter, self.project_folder(placement.project))
        await self._blocking(self.server(placement).start, spec)

    async def observe(self, placement: Placement) -> Observation:
        return await asyncio.to_thread(self.server(placement).observe)

    async def stop(self, placement: Placement) -> None:
        await self._blocking(self.server(placement).stop)

    async def remove(self, placement: Placement) -> None:
        await self._blocking(self.server(placement).remove)

    async def announce(self, placement: Placement, state: State) -> None:
        await self._blocking(self.server(placement).announce, state)

    def end_all(self) -> None:
        """Stop every server and exporter below the folder; data stays. For the end of a demonstration. Blocking."""
        for project_folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            for server in clusters_of(project_folder):
                server.stop()
            end_exporter(project_folder)

    async def _blocking(self, call: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        try:
            await asyncio.to_thread(call, *arguments, **named)
        except OSError as error:
            raise FolderFailed(f"{error.strerror or error}: {error.filename or self._folder}") from error


def clusters_of(project_folder: Path) -> list[LocalServer]:
    """The clusters of a project's folder, by id."""
    folder = project_folder / "clusters"
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [LocalServer(path) for path in sorted(found)]
