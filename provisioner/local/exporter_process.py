"""The exporter of a project as a detached process: create-or-get, find its address, end it. Calls block."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from provisioner.local import process
from provisioner.local.files import load_list

FOLDER_VARIABLE = "BYOC_EXPORTER_FOLDER"
ADDRESS_FILE = "exporter.json"  # Prometheus file discovery, one group with one target
_CODE = Path(__file__).parent.parent.parent


def ensure_exporter(project_folder: Path) -> None:
    """Have one exporter running for the project. It writes its address once it answers. Raises LaunchFailed."""
    project_folder.mkdir(parents=True, exist_ok=True)
    with (project_folder / ".exporter.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if find_exporter(project_folder) is None:
            (project_folder / ADDRESS_FILE).unlink(missing_ok=True)
            command = [sys.executable, "-m", "provisioner.local.exporter", "--state", str(project_folder)]
            environment = {"PATH": os.defpath, "PYTHONPATH": str(_CODE), FOLDER_VARIABLE: str(project_folder)}
            process.launch(command, environment, project_folder, project_folder / "exporter.log")


def find_exporter(project_folder: Path) -> process.ProcessIdentity | None:
    """The live exporter of the project."""
    return next(process.find_by_environment(FOLDER_VARIABLE, str(project_folder)), None)


def exporter_address(project_folder: Path) -> str | None:
    """`host:port` of the live exporter; None while it starts, or when there is none."""
    if find_exporter(project_folder) is None:
        return None
    groups = load_list(project_folder / ADDRESS_FILE)
    return str(groups[0]["targets"][0]) if groups else None


def end_exporter(project_folder: Path) -> None:
    """End it, if it runs."""
    running = find_exporter(project_folder)
    if running and not process.end(running, 5.0, 5.0):
        raise process.DoesNotEnd(
            f"the exporter {running.pid} does not end; look at {project_folder / 'exporter.log'}"
        )
