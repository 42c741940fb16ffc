"""A stand-in for a Milvus server: a real process with the environment of one, in a cluster's folder."""

from __future__ import annotations

import json
from pathlib import Path

from provisioner.lifecycle import State
from provisioner.local import process
from provisioner.local.files import save_record
from provisioner.local.server import ALLOCATION_VARIABLE, FOLDER_VARIABLE, VERSION_VARIABLE, LocalServer
from provisioner.spec import Allocation, sized

ALLOCATION = sized("2cu", "2.3.5").allocation
METRICS_PORT = 29091


def start_standin(
    project_folder: Path,
    cluster: str,
    state: State = State.RUNNING,
    *,
    recorded: bool = True,
    allocation: Allocation = ALLOCATION,
) -> tuple[LocalServer, process.ProcessIdentity]:
    """A cluster's folder whose "server" sleeps. Not `recorded`: as if the vendor died right after the launch."""
    server = LocalServer(project_folder / "clusters" / cluster)
    server.folder.mkdir(parents=True)
    environment = {
        FOLDER_VARIABLE: str(server.folder),
        VERSION_VARIABLE: "2.3.5",
        ALLOCATION_VARIABLE: json.dumps(allocation.by_component()),
    }
    identity = process.launch(["/bin/sleep", "120"], environment, server.folder, server.folder / "log")
    if recorded:
        save_record(server.folder / "process.json", identity.record())
    save_record(server.folder / "ports.json", {"metrics_port": METRICS_PORT, "proxy_port": 29530})
    server.announce(state)
    return server, identity
