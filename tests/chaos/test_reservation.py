"""Capacity reserved but not started: the licence's own ledger, killed in between, on both databases.

tests/provisioner/test_durable.py kills every other step of an operation, with a capacity of the test's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from billing.book import ContractBook
from billing.models import reservations
from console.wiring import open_vendor
from kernel.clock import SystemClock
from tests.billing.deals import contract_text, licence_text
from tests.chaos.program import ROOT
from tests.chaos.reserving import provisioner_of
from tests.provisioner.world import ACTOR, ORGANIZATION, PROJECT

pytestmark = pytest.mark.slow
YEAR = SystemClock().now().year
TERM = (f"{YEAR}-01-01", f"{YEAR + 2}-01-01")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A vendor that has licensed 8 vCPU to an organization, without on-demand."""
    path = tmp_path / "vendor.yaml"
    deployment: dict[str, Any] = {"folder": str(tmp_path / "vendor")}
    if request.param == "postgresql":
        deployment["database"] = {"url": request.getfixturevalue("postgres_url")}
    path.write_text(yaml.safe_dump({"deployment": deployment}))
    asyncio.run(sell(path))
    return path


async def sell(config: Path) -> None:
    vendor = open_vendor(None, config)
    provisioner = provisioner_of(vendor)
    await provisioner.create_organization("org a", ACTOR, ORGANIZATION)
    await provisioner.create_project(ORGANIZATION, "one", ACTOR, PROJECT)
    book = ContractBook(vendor.database(), vendor.clock, vendor.audit())
    contract = contract_text(ORGANIZATION, term=TERM, vcpu=8, on_demand=False)
    book.add_contract(contract, "contract.yaml", "test")
    book.add_licence(licence_text(ORGANIZATION, valid=TERM, vcpu=8), "licence.yaml", "test")
    await vendor.close()


def run(config: Path, *words: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos.reserving", str(config), *words],
        cwd=ROOT,
        env={**os.environ, "BYOC_CRASH_AT": crash_at},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def outcome(config: Path, *words: str) -> dict[str, Any]:
    done = run(config, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def die(config: Path, place: str, *words: str) -> None:
    done = run(config, *words, crash_at=place)
    assert done.returncode == -signal.SIGKILL, f"{place} was not reached: {done.stdout} {done.stderr[-2000:]}"
    assert f"crash point {place}\n" in done.stderr


def held(config: Path) -> dict[str, int]:
    """Cluster to milli-vCPU, as another process sees it."""
    vendor = open_vendor(None, config)
    try:
        rows = vendor.database().transact(lambda connection: connection.execute(sa.select(reservations)).all())
        return {row.subject: row.milli_vcpu for row in rows}
    finally:
        vendor.close_sync()


def test_capacity_reserved_by_a_process_that_was_killed_is_neither_lost_nor_sold_twice(config: Path) -> None:
    die(config, "provisioner.reserved", "one", "4cu")  # before the commit: nothing of it is there
    assert held(config) == {}

    die(config, "provisioner.committed", "one", "4cu")  # reserved, and no server started
    assert held(config) == {"one": 4000}
    assert not (config.parent / "vendor" / "one.json").exists()

    assert outcome(config, "two", "4cu") == {
        "refused": "",
        "states": {"one": "RUNNING", "two": "RUNNING"},
        "boots": {"one": 1, "two": 1},
    }
    assert held(config) == {"one": 4000, "two": 4000}
    assert "8 are held by others" in outcome(config, "three", "1cu")["refused"]
