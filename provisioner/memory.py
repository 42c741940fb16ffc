"""A provider in memory, on the injected clock, with faults to order: the twin that tests of the rules use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from kernel.clock import Clock
from kernel.errors import ByocError
from kernel.ids import ClusterId
from provisioner.lifecycle import State
from provisioner.ports import Observation, Placement
from provisioner.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class _Server:
    spec: ClusterSpec
    ready_at: float


class MemoryProvider:
    """Servers become ready `boot_seconds` after their start.

    `faults[call]` is a list of errors that the next calls of that name raise, one each. `never_ready` holds
    sizes whose servers never become ready. `calls` counts what was asked.
    """

    def __init__(self, clock: Clock, boot_seconds: float = 3.0) -> None:
        self._clock = clock
        self._boot_seconds = boot_seconds
        self._servers: dict[ClusterId, _Server] = {}
        self._data: set[ClusterId] = set()
        self.announced: dict[ClusterId, list[State]] = {}
        self.faults: dict[str, list[ByocError]] = {}
        self.never_ready: set[str] = set()
        self.calls: Counter[str] = Counter()

    async def start(self, placement: Placement, spec: ClusterSpec) -> None:
        self._called("start")
        running = self._servers.get(placement.cluster)
        if running is None or running.spec != spec:
            boot = float("inf") if spec.size in self.never_ready else self._boot_seconds
            self._servers[placement.cluster] = _Server(spec, self._clock.monotonic() + boot)
            self._data.add(placement.cluster)
            self.calls["boot"] += 1

    async def observe(self, placement: Placement) -> Observation:
        self._called("observe")
        server = self._servers.get(placement.cluster)
        if server is None:
            return Observation(present=placement.cluster in self._data, detail="no server runs")
        ready = self._clock.monotonic() >= server.ready_at
        spec = server.spec
        return Observation(
            True,
            True,
            ready,
            spec.allocation,
            spec.version,
            f"{placement.cluster}:19530",
            f"{placement.cluster}:9091",
        )

    async def stop(self, placement: Placement) -> None:
        self._called("stop")
        self._servers.pop(placement.cluster, None)

    async def remove(self, placement: Placement) -> None:
        self._called("remove")
        self._servers.pop(placement.cluster, None)
        self._data.discard(placement.cluster)

    async def announce(self, placement: Placement, state: State) -> None:
        self._called("announce")
        self.announced.setdefault(placement.cluster, []).append(state)

    def make_ready(self, cluster: ClusterId) -> None:
        """Its server is ready from now on."""
        self._servers[cluster] = replace(self._servers[cluster], ready_at=self._clock.monotonic())

    def die(self, cluster: ClusterId) -> None:
        """The server ends by itself; its data stays."""
        self._servers.pop(cluster, None)

    def runs(self, cluster: ClusterId) -> bool:
        """Whether a server runs, ready or not."""
        return cluster in self._servers

    def has_data(self, cluster: ClusterId) -> bool:
        """Whether anything of the cluster is left."""
        return cluster in self._data

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.faults.get(name):
            raise self.faults[name].pop(0)
