"""A vendor's process for the tests that kill it: real engine, real database, a provider that lives in a folder.

    python -m tests.provisioner.vendor DATABASE_URL FOLDER [OPERATION [SIZE]]

Asks for the operation, if one is named, and runs the engine until no job is unfinished. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from console.migrate import migrate
from kernel.audit import AuditLog
from kernel.clock import SystemClock
from kernel.database import Database
from kernel.ids import ClusterId
from provisioner import store
from provisioner.api import NewCluster, Provisioner
from provisioner.engines.durable import DurableEngine
from provisioner.errors import NameTaken
from provisioner.lifecycle import State
from provisioner.local.files import load_record, save_record
from provisioner.operations import Patience
from provisioner.ports import Observation, Placement
from provisioner.records import Job
from provisioner.spec import ClusterSpec
from tests.provisioner.world import ACTOR, CLUSTER, ORGANIZATION, PROJECT, DatabaseCapacity, spec


class FolderProvider:
    """Servers are files, so that they outlive the vendor's process, as real ones do. `boots` counts the starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, cluster: ClusterId) -> Path:
        return self._folder / f"{cluster}.json"

    async def start(self, placement: Placement, spec: ClusterSpec) -> None:
        record = load_record(self._path(placement.cluster)) or {"boots": 0}
        if record.get("spec") != spec.render():
            save_record(self._path(placement.cluster), {"spec": spec.render(), "boots": record["boots"] + 1})

    async def observe(self, placement: Placement) -> Observation:
        record = load_record(self._path(placement.cluster))
        if record is None or record["spec"] is None:
            return Observation(present=record is not None, detail="no server runs")
        seen = ClusterSpec.parse(record["spec"])
        return Observation(True, True, True, seen.allocation, seen.version, "host:1", "host:2")

    async def stop(self, placement: Placement) -> None:
        record = load_record(self._path(placement.cluster))
        if record:
            save_record(self._path(placement.cluster), {**record, "spec": None})

    async def remove(self, placement: Placement) -> None:
        self._path(placement.cluster).unlink(missing_ok=True)

    async def announce(self, placement: Placement, state: State) -> None:
        save_record(self._folder / "announced" / placement.cluster, {"state": state})


async def ask(provisioner: Provisioner, operation: str, size: str) -> Job:
    match operation:
        case "create":
            return await provisioner.create_cluster(NewCluster(PROJECT, "main", spec(size), CLUSTER), ACTOR)
        case "scale":
            return await provisioner.scale_cluster(CLUSTER, spec(size), ACTOR)
        case "suspend":
            return await provisioner.suspend_cluster(CLUSTER, ACTOR)
        case "resume":
            return await provisioner.resume_cluster(CLUSTER, ACTOR)
        case "delete":
            return await provisioner.delete_cluster(CLUSTER, ACTOR)
    raise ValueError(operation)


async def play(url: str, folder: Path, words: list[str]) -> dict[str, object]:
    database = Database(url)
    migrate(database)
    clock = SystemClock()
    audit = AuditLog(database, clock)
    capacity = DatabaseCapacity(database, 8000)
    provider = FolderProvider(folder)
    engine = DurableEngine(database)
    provisioner = Provisioner(database, engine, provider, capacity, audit, clock, Patience(look_every_seconds=0.05))
    try:
        await provisioner.create_organization("acme", ACTOR, ORGANIZATION)
        await provisioner.create_project(ORGANIZATION, "one", ACTOR, PROJECT)
    except NameTaken:
        pass
    await provisioner.start()
    if words:
        await ask(provisioner, words[0], words[1] if len(words) > 1 else "2cu")
    for job in await database.run(store.unfinished_jobs):
        await provisioner.wait(job.id, 60)
    if "BYOC_CRASH_AT" in os.environ:
        await asyncio.sleep(60)  # a job is done a moment before its workflow ends: the last place is still ahead
    clusters = await provisioner.clusters(deleted=True)
    await provisioner.stop()
    record = load_record(folder / f"{CLUSTER}.json") or {}
    result = {
        "states": {cluster.id: cluster.state for cluster in clusters},
        "held": DatabaseCapacity.held(database),
        "boots": record.get("boots", 0),
        "ends": [event.action for event in audit.events() if event.action.endswith(("succeeded", "broken"))],
        "findings": len(audit.verify()),
    }
    database.close()
    return result


if __name__ == "__main__":
    print(json.dumps(asyncio.run(play(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))))  # noqa: T201
