"""Real Milvus servers: made, used, scaled, suspended, resumed, lost and removed by the real engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from kernel.audit import AuditLog
from kernel.clock import SystemClock
from kernel.database import Database
from kernel.ids import ClusterId
from provisioner.api import NewCluster, Provisioner
from provisioner.engines.durable import DurableEngine
from provisioner.lifecycle import State
from provisioner.local.exporter_process import exporter_address
from provisioner.local.install import InstallFailed, install
from provisioner.local.provider import LocalProvider
from provisioner.local.server import LocalServer
from provisioner.ports import Placement
from provisioner.records import Job
from tests.provisioner.test_exporter import decode, running
from tests.provisioner.test_process import wait_for
from tests.provisioner.world import ACTOR, CLUSTER, ORGANIZATION, PROJECT, DatabaseCapacity, spec

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]
WORKLOAD = Path(__file__).parents[2] / "provisioner/local/workload.py"
SECONDS = 200
LAUNCH = """
import pathlib, sys
from provisioner.local.server import LocalServer
from provisioner.spec import sized
LocalServer(pathlib.Path(sys.argv[1])).start(sized("1cu", "2.3.5"))
"""


@pytest.fixture(scope="module", autouse=True)
def milvus() -> None:
    try:
        install("2.3.5")
    except InstallFailed as missing:
        if os.environ.get("BYOC_REQUIRE_SERVICES") == "1":
            pytest.fail(f"no Milvus: {missing}", pytrace=False)
        pytest.skip(f"no Milvus: {missing}")


@dataclass
class Site:
    """A vendor with the real engine and the real local provider."""

    database: Database
    provider: LocalProvider
    provisioner: Provisioner

    async def finish(self, job: Job) -> Job:
        return await self.provisioner.wait(job.id, SECONDS)

    def server(self, cluster: ClusterId = CLUSTER) -> LocalServer:
        return self.provider.server(Placement(ORGANIZATION, PROJECT, cluster))

    def exported(self) -> dict[tuple[str, str, str], float]:
        address = exporter_address(self.provider.project_folder(PROJECT))
        with urlopen(f"http://{address}/metrics", timeout=10) as answer:
            return decode(answer.read().decode())

    async def play(self, rows: int, cluster: ClusterId = CLUSTER) -> dict[str, int]:
        """The workload, in the Milvus virtual environment, against the cluster's endpoint."""
        endpoint = (await self.provisioner.cluster(cluster)).endpoint
        assert endpoint is not None
        options = ["--port", endpoint.rpartition(":")[2], "--seconds", "0.5", "--rows", str(rows)]
        python = str(install("2.3.5").python)
        child = await asyncio.create_subprocess_exec(
            python, "-W", "ignore", str(WORKLOAD), *options, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(child.communicate(), SECONDS)
        assert child.returncode == 0
        counts: dict[str, int] = json.loads(out)
        return counts


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LocalProvider]:
    made = LocalProvider(tmp_path / "vpc")
    yield made
    made.end_all()


@pytest.fixture
async def site(database: Database, provider: LocalProvider) -> AsyncIterator[Site]:
    clock = SystemClock()
    provisioner = Provisioner(
        database,
        DurableEngine(database),
        provider,
        DatabaseCapacity(database, 8000),
        AuditLog(database, clock),
        clock,
    )
    await provisioner.create_organization("acme", ACTOR, ORGANIZATION)
    await provisioner.create_project(ORGANIZATION, "one", ACTOR, PROJECT)
    await provisioner.start()
    yield Site(database, provider, provisioner)
    await provisioner.stop()


async def test_the_life_of_a_real_cluster(site: Site) -> None:
    provisioner = site.provisioner
    job = await site.finish(
        await provisioner.create_cluster(NewCluster(PROJECT, "main", spec("1cu"), CLUSTER), ACTOR)
    )
    assert job.reason is None
    first = site.server().find()
    assert first is not None
    assert honoured(site) == "2", "1.25 vCPU rounded up"
    counts = await site.play(600)
    assert counts["entities"] == 600
    assert counts["searches"] >= 1
    assert counts["hits"] == 5 * counts["searches"]

    job = await site.finish(await provisioner.scale_cluster(CLUSTER, spec("2cu"), ACTOR))
    assert job.reason is None
    second = site.server().find()
    assert second is not None
    assert second != first
    assert honoured(site) == "3", "2.5 vCPU rounded up"
    assert site.exported() == running(CLUSTER)

    await site.finish(await provisioner.suspend_cluster(CLUSTER, ACTOR))
    assert site.server().find() is None
    assert site.exported() == {("byoc_cluster_state", CLUSTER, "SUSPENDED"): 1.0}
    assert DatabaseCapacity.held(site.database) == {}

    await site.finish(await provisioner.resume_cluster(CLUSTER, ACTOR))
    assert (await provisioner.cluster(CLUSTER)).state is State.RUNNING
    assert (await site.play(400))["entities"] == 1000, "the data lived through scale and suspend"

    await site.finish(await provisioner.delete_cluster(CLUSTER, ACTOR))
    assert not site.server().folder.exists()
    assert site.exported() == {}


async def test_two_live_side_by_side_and_one_that_is_killed_is_seen_and_resumed(site: Site) -> None:
    names = [ClusterId("cluster-a"), ClusterId("cluster-b")]
    asked = [
        await site.provisioner.create_cluster(NewCluster(PROJECT, name, spec("1cu"), name), ACTOR) for name in names
    ]
    for job in asked:
        assert (await site.finish(job)).reason is None
    victim = site.server(names[0]).find()
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    await asyncio.to_thread(wait_for, lambda: site.server(names[0]).find() is None)
    assert await site.provisioner.observe() == [names[0]]
    assert DatabaseCapacity.held(site.database) == {names[1]: 1000}
    assert site.exported()["byoc_cluster_state", names[0], "FAILED"] == 1
    resumed = await site.finish(await site.provisioner.resume_cluster(names[0], ACTOR))
    assert resumed.reason is None
    assert {cluster.state for cluster in await site.provisioner.clusters()} == {State.RUNNING}


async def test_a_server_launched_by_a_vendor_that_died_before_writing_it_down_is_taken_over(site: Site) -> None:
    server = site.server()
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LAUNCH, str(server.folder)],
        env={**os.environ, "BYOC_CRASH_AT": "local.launched"},
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert not (server.folder / "process.json").exists()
    launched = server.find()
    assert launched is not None, "the server lives on without its vendor"
    job = await site.finish(
        await site.provisioner.create_cluster(NewCluster(PROJECT, "main", spec("1cu"), CLUSTER), ACTOR)
    )
    assert job.reason is None
    assert server.find() == launched, "no second server on the same data"


def honoured(site: Site) -> str | None:
    """The GOMAXPROCS that the server says it honours, in its log."""
    log = (site.server().folder / "logs/milvus.log").read_text(errors="replace")
    found = re.search(r'maxprocs: Honoring GOMAXPROCS="(\d+)"', log)
    return found.group(1) if found else None
