"""`kubernetes_sd_configs`: pods, services and endpoints that an API server knows, followed by list and watch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from collector.discovery.kubernetes.api import SERVICE_ACCOUNT, ApiServer, in_cluster
from collector.discovery.kubernetes.objects import Kept, keep
from collector.discovery.kubernetes.reflector import Collection, Reflector
from collector.discovery.kubernetes.roles import targets_of
from collector.scrape.discovery_settings import KubernetesSdConfig, Role
from collector.scrape.target import Discovered
from kernel.clock import Clock
from kernel.errors import InvalidInput
from kernel.logs import logger

_log = logger("discovery")
_PATHS = {
    Role.POD: ("/api/v1", "pods"),
    Role.SERVICE: ("/api/v1", "services"),
    Role.ENDPOINTS: ("/api/v1", "endpoints"),
    Role.ENDPOINTSLICE: ("/apis/discovery.k8s.io/v1", "endpointslices"),
}
_NEEDED = {
    Role.POD: (Role.POD,),
    Role.SERVICE: (Role.SERVICE,),
    Role.ENDPOINTS: (Role.ENDPOINTS, Role.SERVICE, Role.POD),
    Role.ENDPOINTSLICE: (Role.ENDPOINTSLICE, Role.SERVICE, Role.POD),
}


class KubernetesDiscovery:
    """What one `kubernetes_sd_configs` entry finds. `account`: the folder of the pod's service account."""

    def __init__(self, config: KubernetesSdConfig, clock: Clock, account: Path = SERVICE_ACCOUNT) -> None:
        self._config = config
        self._clock = clock
        self._account = account
        self._reflectors: list[Reflector] = []
        self._unusable: str | None = None
        self._made: Sequence[Discovered] = ()
        self._made_at = -1

    async def run(self) -> None:
        """Follow the API server until cancelled. Where there is none it says so and waits: other jobs go on."""
        try:
            settings = self._config if self._config.api_server else in_cluster(self._account)
            namespaces = await asyncio.to_thread(self._namespaces)
        except InvalidInput as error:
            self._unusable = str(error)
            _log.error("kubernetes_discovery_unusable", reason=str(error))
            await asyncio.Event().wait()
            return
        server = ApiServer(settings, self._clock)
        selectors = {one.role: one for one in self._config.selectors}
        self._reflectors = [
            Reflector(server, Collection.of(*_PATHS[role], namespace, selectors.get(role)), keep[role], self._clock)
            for role in _NEEDED[self._config.role]
            for namespace in namespaces
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for one in self._reflectors:
                    group.create_task(one.run(), name=f"kubernetes.{one.collection.plural}")
        finally:
            await server.close()

    def _namespaces(self) -> list[str]:
        names = list(dict.fromkeys(self._config.namespaces.names))
        if self._config.namespaces.own_namespace:
            file = self._account / "namespace"
            try:
                own = file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise InvalidInput.single(
                    "kubernetes_sd_configs", "namespaces.own_namespace", str(error), "true inside a pod only"
                ) from error
            names = list(dict.fromkeys([*names, own]))
        return names or [""]

    @property
    def last_error(self) -> str | None:
        """Why the picture may be old; None when every collection is followed."""
        errors = [self._unusable, *(one.last_error for one in self._reflectors)]
        return next((error for error in errors if error is not None), None)

    async def targets(self) -> Sequence[Discovered]:
        """The targets by what is known now; none until every collection was listed once."""
        if not self._reflectors or not all(one.listed for one in self._reflectors):
            return ()
        changes = sum(one.changes for one in self._reflectors)
        if changes != self._made_at:
            objects: dict[Role, list[Kept]] = {role: [] for role in Role}
            order = [role for role in _NEEDED[self._config.role] for _ in range(self._per_role())]
            for role, reflector in zip(order, self._reflectors, strict=True):
                objects[role] += reflector.objects.values()
            self._made = await asyncio.to_thread(targets_of, self._config.role, objects)
            self._made_at = changes
        return self._made

    def _per_role(self) -> int:
        return len(self._reflectors) // len(_NEEDED[self._config.role])
