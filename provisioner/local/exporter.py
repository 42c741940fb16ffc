"""The exporter of a project, inside "the customer's VPC": allocated vCPU and lifecycle state of its clusters.

    python -m provisioner.local.exporter --state <folder>/<project> --port 9200

Reads what runs, not what was ordered: a cluster whose server is dead has no allocation. Serves `/metrics` and
`/healthz` on loopback and keeps `targets.json` (Prometheus file discovery) naming each live server's metrics
address, so that a collector finds clusters as they come; `exporter.json` names the exporter itself.
`byoc_component_allocated_vcpu` is what licences are metered by.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from kernel.clock import Clock, SystemClock
from provisioner.lifecycle import State
from provisioner.local.configuration import LOOPBACK
from provisioner.local.exporter_process import ADDRESS_FILE
from provisioner.local.files import save_text
from provisioner.local.provider import clusters_of
from provisioner.local.server import LocalServer
from provisioner.spec import Allocation

TARGETS_SECONDS = 1.0
TARGETS_FILE = "targets.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of one cluster: no allocation when no server runs."""

    cluster: str
    state: State | None
    allocation: Allocation | None
    metrics_address: str | None


def look(project_folder: Path) -> list[Seen]:
    """Every cluster of the project, by id. Blocking; reads files and /proc only."""
    return [_look_at(server) for server in clusters_of(project_folder)]


def _look_at(server: LocalServer) -> Seen:
    allocation = server.running_allocation()
    announced = server.announced()
    if announced == State.RUNNING and allocation is None:
        announced = State.FAILED  # whoever announced it does not know yet that the server died
    port = server.ports().get("metrics_port")
    address = f"{LOOPBACK}:{port}" if allocation and port else None
    return Seen(server.folder.name, announced, allocation, address)


class ClusterMetrics(Collector):
    """`byoc_component_allocated_vcpu` and `byoc_cluster_state`, made anew for each scrape."""

    def __init__(self, project_folder: Path) -> None:
        self._project_folder = project_folder

    def collect(self) -> Iterable[Metric]:
        allocated = GaugeMetricFamily(
            "byoc_component_allocated_vcpu",
            "vCPU allocated to a component of a cluster whose server runs",
            labels=["cluster", "component"],
        )
        states = GaugeMetricFamily(
            "byoc_cluster_state", "1 for the lifecycle state a cluster is in", labels=["cluster", "state"]
        )
        for seen in look(self._project_folder):
            for component, milli_vcpu in seen.allocation.by_component().items() if seen.allocation else ():
                allocated.add_metric([seen.cluster, component], milli_vcpu / 1000)
            if seen.state:
                states.add_metric([seen.cluster, seen.state.value], 1)
        yield allocated
        yield states


def targets(clusters: Iterable[Seen]) -> list[dict[str, object]]:
    """Prometheus file discovery: one group for each live server, labelled with its cluster."""
    return [
        {"targets": [seen.metrics_address], "labels": {"cluster": seen.cluster}}
        for seen in clusters
        if seen.metrics_address and seen.state not in {None, State.DELETING}
    ]


async def keep_targets(project_folder: Path, clock: Clock) -> None:
    """Rewrite `targets.json` when it changes, for ever."""
    path = project_folder / TARGETS_FILE
    written: str | None = None
    while True:
        listed = await asyncio.to_thread(look, project_folder)
        text = json.dumps(targets(listed), indent=1) + "\n"
        if text != written:
            await asyncio.to_thread(save_text, path, text)
            written = text
        await clock.sleep(TARGETS_SECONDS)


def exporter_app(project_folder: Path) -> web.Application:
    """`/metrics` and `/healthz`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterMetrics(project_folder))

    async def metrics(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz)])
    return app


async def serve(project_folder: Path, port: int, clock: Clock) -> None:
    """Until SIGTERM or SIGINT. Prints the address once it answers."""
    runner = web.AppRunner(exporter_app(project_folder), access_log=None, shutdown_timeout=2)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    address = f"{LOOPBACK}:{runner.addresses[0][1]}"
    listing = json.dumps([{"targets": [address], "labels": {}}]) + "\n"
    await asyncio.to_thread(save_text, project_folder / ADDRESS_FILE, listing)
    print(f"exporter: {address}", flush=True)  # noqa: T201
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    keeper = asyncio.create_task(keep_targets(project_folder, clock), name="exporter.targets")
    stop = asyncio.create_task(stopped.wait(), name="exporter.stop")
    await asyncio.wait({keeper, stop}, return_when=asyncio.FIRST_COMPLETED)
    for task in (keeper, stop):
        task.cancel()
    ended = await asyncio.gather(keeper, stop, return_exceptions=True)
    await runner.cleanup()
    for error in failures(ended):
        raise error


def failures(results: Iterable[object]) -> Iterator[BaseException]:
    """The errors among gathered results, cancellations apart."""
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            yield result


def main(arguments: list[str]) -> None:
    """`python -m provisioner.local.exporter --state FOLDER --port P`."""
    parser = argparse.ArgumentParser(description="exporter of a project's clusters")
    parser.add_argument("--state", type=Path, required=True, help="the project's folder")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 asks for a free one")
    options = parser.parse_args(arguments)
    folder = options.state.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(folder, options.port, SystemClock()))


if __name__ == "__main__":
    main(sys.argv[1:])
