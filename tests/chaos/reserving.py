"""A vendor's process with its own licence capacity and engine, whose servers are files, so that it starts at once.

`python -m tests.chaos.reserving VENDOR_YAML [CLUSTER SIZE]` asks for a cluster, if one is named, and runs the
engine until no job is unfinished. Prints {refused, states, boots}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from billing.errors import CapacityRefused
from console.wiring import Vendor, open_vendor
from kernel.ids import ClusterId
from kernel.logs import configure_logs
from provisioner import store
from provisioner.api import NewCluster, Provisioner
from provisioner.engines.durable import DurableEngine
from provisioner.local.files import load_record
from provisioner.operations import Patience
from tests.provisioner.vendor import FolderProvider
from tests.provisioner.world import ACTOR, PROJECT, spec


def provisioner_of(vendor: Vendor) -> Provisioner:
    database = vendor.database()
    return Provisioner(
        database,
        DurableEngine(database),
        FolderProvider(vendor.folder),
        vendor.capacity,
        vendor.audit(),
        vendor.clock,
        Patience(look_every_seconds=0.05),
    )


async def main(config: Path, words: list[str]) -> dict[str, object]:
    configure_logs("ERROR")
    vendor = open_vendor(None, config)
    provisioner, refused = provisioner_of(vendor), ""
    await provisioner.start()
    if words:
        name, size = words
        try:
            await provisioner.create_cluster(NewCluster(PROJECT, name, spec(size), ClusterId(name)), ACTOR)
        except CapacityRefused as error:
            refused = str(error)
    for job in await vendor.database().run(store.unfinished_jobs):
        await provisioner.wait(job.id, 60)
    states = {cluster.id: cluster.state.value for cluster in await provisioner.clusters()}
    await provisioner.stop()
    boots = {name: (load_record(vendor.folder / f"{name}.json") or {}).get("boots") for name in states}
    await vendor.close()
    return {"refused": refused, "states": states, "boots": boots}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))))
