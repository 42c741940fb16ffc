"""One Milvus server of the local provider: its folder, its process, and what can be seen of it.

Folder: `order.json` (what was asked for), `ports.json`, `process.json` (who runs), `lifecycle.json`, `configs/`,
`data/`, `logs/`. Truth about the process is in /proc; the records only say where to look.
All calls block: not on the event loop.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernel.crashpoints import crash_point
from kernel.errors import InvalidInput
from provisioner.lifecycle import State
from provisioner.local import configuration, probe, process
from provisioner.local.files import load_record, save_record
from provisioner.local.install import Installation, install
from provisioner.ports import Observation
from provisioner.spec import Allocation, ClusterSpec, parse_allocation

FOLDER_VARIABLE = "BYOC_CLUSTER_FOLDER"
ALLOCATION_VARIABLE = "BYOC_ALLOCATION"  # JSON, component to milli-vCPU
VERSION_VARIABLE = "BYOC_MILVUS_VERSION"
STOP_SECONDS = 20.0
KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The server that lives in `folder`, if there is one."""

    folder: Path

    def start(self, spec: ClusterSpec) -> None:
        """Create-or-get a process of `spec`. Raises InvalidInput, InstallFailed, LaunchFailed."""
        installed = install(spec.version)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            running = self.find()
            if running and _running_spec(running) == (spec.allocation, spec.version):
                return
            self._end()
            save_record(self.folder / "order.json", {"spec": spec.render()})
            self._launch(installed, spec)

    def _launch(self, installed: Installation, spec: ClusterSpec) -> None:
        ports = self._choose_ports(installed)
        configuration.write_configuration(installed, self.folder, ports)
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        (self.folder / "data").mkdir(exist_ok=True)
        log = logs / "milvus.log"
        if log.exists():
            log.replace(logs / "milvus.log.1")
        command = [str(installed.binaries / "milvus"), "run", "standalone"]
        identity = process.launch(command, self._environment(installed, spec, ports), self.folder, log)
        crash_point("local.launched")
        save_record(self.folder / "process.json", identity.record())

    def _choose_ports(self, installed: Installation) -> dict[str, int]:
        """The ports of the last start while they are free, so that the address lives through a suspend."""
        names = configuration.port_names(installed)
        ports = self.ports()
        if sorted(ports) != names or not configuration.are_free(ports):
            ports = configuration.free_ports(names)
            save_record(self.folder / "ports.json", ports)
        return ports

    def _environment(self, installed: Installation, spec: ClusterSpec, ports: dict[str, int]) -> dict[str, str]:
        # Nothing is inherited: the vendor's environment may hold secrets. GOMAXPROCS is what makes the
        # allocation real: Milvus sizes its thread pools, the C++ ones too, by it.
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "data"),
            "GOMAXPROCS": str(-(-spec.allocation.total_milli_vcpu // 1000)),
            "DEPLOY_MODE": "STANDALONE",
            "LD_LIBRARY_PATH": str(installed.binaries),
            "MILVUSCONF": str(self.folder / "configs"),
            "ETCD_CONFIG_PATH": str(self.folder / "configs/etcd.yaml"),
            "METRICS_PORT": str(ports["metrics_port"]),
            FOLDER_VARIABLE: str(self.folder),
            VERSION_VARIABLE: spec.version,
            ALLOCATION_VARIABLE: json.dumps(spec.allocation.by_component()),
        }

    def find(self) -> process.ProcessIdentity | None:
        """The live server of this folder, also when its record was never written or names a dead process."""
        recorded = process.ProcessIdentity.parse(load_record(self.folder / "process.json"))
        if recorded and recorded.is_alive() and self._owns(recorded):
            return recorded
        return next(process.find_by_environment(FOLDER_VARIABLE, str(self.folder)), None)

    def _owns(self, identity: process.ProcessIdentity) -> bool:
        return process.environment_of(identity.pid).get(FOLDER_VARIABLE) == str(self.folder)

    def observe(self) -> Observation:
        """Look from outside: the process and its environment, its API, its metrics."""
        running = self.find()
        if running is None:
            return Observation(present=self.folder.exists(), detail=self.last_words())
        allocation, version = _running_spec(running)
        ports = self.ports()
        endpoint = f"{configuration.LOOPBACK}:{ports.get('proxy_port', 0)}"
        metrics = f"{configuration.LOOPBACK}:{ports.get('metrics_port', 0)}"
        problem = probe.problem_of(endpoint, metrics)
        return Observation(True, True, problem is None, allocation, version, endpoint, metrics, problem or "")

    def running_allocation(self) -> Allocation | None:
        """The allocation of the live server, from its own environment; None when none runs."""
        running = self.find()
        return _running_spec(running)[0] if running else None

    def stop(self) -> None:
        """Terminate, wait, kill. Returns when no process is left; keeps the data."""
        if self.folder.exists():
            with self._exclusive():
                self._end()

    def remove(self) -> None:
        """Stop, then remove the folder."""
        self.stop()
        if self.folder.exists():
            # Renamed first: what is half removed must not be taken for a cluster.
            grave = self.folder.with_name(f".removed-{self.folder.name}")
            if grave.exists():
                shutil.rmtree(grave)
            self.folder.replace(grave)
            shutil.rmtree(grave)

    def announce(self, state: State) -> None:
        """Write down the lifecycle state for the exporter; nothing for a cluster that is gone."""
        if self.folder.exists() or state is State.CREATING:
            save_record(self.folder / "lifecycle.json", {"state": state.value})

    def announced(self) -> State | None:
        """The state last announced."""
        record = load_record(self.folder / "lifecycle.json") or {}
        return State(record["state"]) if record.get("state") in set(State) else None

    def ports(self) -> dict[str, int]:
        """Port by its name; empty before the first start."""
        record = load_record(self.folder / "ports.json") or {}
        return {name: port for name, port in record.items() if isinstance(port, int) and 0 < port < 65536}

    def last_words(self) -> str:
        """The last line of the log of a server that ended, for the reason of a failure."""
        try:
            with (self.folder / "logs/milvus.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return "no server runs"
        return f"no server runs; its log ends: {lines[-1][-200:]}" if lines else "no server runs; its log is empty"

    def _end(self) -> None:
        running = self.find()
        if running is None:
            return
        if not process.end(running, STOP_SECONDS, KILL_SECONDS):
            raise process.DoesNotEnd(f"process {running.pid} does not end; look at {self.folder / 'logs'}")
        crash_point("local.ended")
        (self.folder / "process.json").unlink(missing_ok=True)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _running_spec(identity: process.ProcessIdentity) -> tuple[Allocation | None, str | None]:
    """Allocation and version that a live process was started with, from its own environment."""
    environment = process.environment_of(identity.pid)
    try:
        allocation = parse_allocation(json.loads(environment[ALLOCATION_VARIABLE]), str(identity.pid))
    except (KeyError, ValueError, AttributeError, InvalidInput):
        return None, None
    return allocation, environment.get(VERSION_VARIABLE)
