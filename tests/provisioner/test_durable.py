"""The durable engine with real deaths: SIGKILL of the vendor's process at each named place, then a new process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.database import sqlite_url
from tests.databases import open_migrated

# Reserved but not committed: rolled back. Committed but not begun: "capacity reserved but not started".
PLACES = ["committed", "begun", "acted", "observed", "committed_state", "declared"]


class Vendor:
    """Runs the vendor's process on one database and one folder of servers."""

    def __init__(self, url: str, folder: Path) -> None:
        self._arguments = [url, str(folder)]

    def run(self, *words: str) -> dict[str, Any]:
        done = self._start(words, {})
        assert done.returncode == 0, done.stderr[-3000:]
        assert "DBOS" not in done.stdout + done.stderr, "the engine prints nothing of its own"
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert result.pop("findings") == 0
        return result

    def die(self, place: str, *words: str) -> None:
        done = self._start(words, {"BYOC_CRASH_AT": f"provisioner.{place}"})
        assert done.returncode == -signal.SIGKILL, f"{place} was not reached: {done.stdout} {done.stderr[-2000:]}"

    def _start(self, words: tuple[str, ...], extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.provisioner.vendor", *self._arguments, *words],
            env={**os.environ, **extra},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture
def sqlite_vendor(tmp_path: Path) -> Vendor:
    path = tmp_path / "byoc.sqlite"
    open_migrated(path).close()
    return Vendor(sqlite_url(path), tmp_path)


@pytest.fixture
def postgres_vendor(migrated_postgres_url: str, tmp_path: Path) -> Vendor:
    return Vendor(migrated_postgres_url, tmp_path)


@pytest.mark.slow
def test_a_reservation_that_was_not_committed_leaves_nothing(sqlite_vendor: Vendor) -> None:
    sqlite_vendor.die("reserved", "create")
    assert sqlite_vendor.run() == {"states": {}, "held": {}, "boots": 0, "ends": []}


@pytest.mark.slow
def test_capacity_that_was_reserved_and_not_started_is_started_by_the_next_process(sqlite_vendor: Vendor) -> None:
    sqlite_vendor.die("committed", "create")
    assert sqlite_vendor.run() == created()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES[1:])
def test_a_create_is_finished_once_wherever_the_process_was_killed(sqlite_vendor: Vendor, place: str) -> None:
    sqlite_vendor.die(place, "create")
    assert sqlite_vendor.run() == created()


@pytest.mark.slow
def test_a_life_with_a_death_in_every_operation(sqlite_vendor: Vendor) -> None:
    assert sqlite_vendor.run("create") == created()
    sqlite_vendor.die("acted", "scale", "4cu")
    scaled = sqlite_vendor.run()
    assert (scaled["states"], scaled["held"], scaled["boots"]) == ({"cluster-a": "RUNNING"}, {"cluster-a": 4000}, 2)
    sqlite_vendor.die("acted", "suspend")
    suspended = sqlite_vendor.run()
    assert (suspended["states"], suspended["held"]) == ({"cluster-a": "SUSPENDED"}, {})
    sqlite_vendor.die("begun", "resume")
    resumed = sqlite_vendor.run()
    assert (resumed["states"], resumed["held"], resumed["boots"]) == (
        {"cluster-a": "RUNNING"},
        {"cluster-a": 4000},
        3,
    )
    sqlite_vendor.die("observed", "delete")
    deleted = sqlite_vendor.run()
    assert (deleted["states"], deleted["held"]) == ({"cluster-a": "DELETED"}, {})
    assert deleted["ends"] == [
        f"cluster.{name}.succeeded" for name in ("create", "scale", "suspend", "resume", "delete")
    ]


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.parametrize("place", ["committed", "acted", "committed_state"])
def test_a_create_is_finished_once_on_postgresql(postgres_vendor: Vendor, place: str) -> None:
    postgres_vendor.die(place, "create")
    assert postgres_vendor.run() == created()


@pytest.mark.services
@pytest.mark.slow
def test_a_reservation_that_was_not_committed_leaves_nothing_on_postgresql(postgres_vendor: Vendor) -> None:
    postgres_vendor.die("reserved", "create")
    assert postgres_vendor.run() == {"states": {}, "held": {}, "boots": 0, "ends": []}


def created() -> dict[str, Any]:
    return {
        "states": {"cluster-a": "RUNNING"},
        "held": {"cluster-a": 2000},
        "boots": 1,
        "ends": ["cluster.create.succeeded"],
    }
