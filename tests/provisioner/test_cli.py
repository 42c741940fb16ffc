"""The commands write jobs; the process with the engine runs them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kernel.audit import AuditLog
from kernel.clock import Clock, SystemClock
from kernel.database import Database
from kernel.errors import InvalidInput, Refuse
from provisioner.capacity import Unlimited
from provisioner.cli import cluster_app, org_app, project_app
from provisioner.errors import Unknown
from tests.provisioner.test_durable import Vendor
from tests.provisioner.world import DatabaseCapacity

APPS = {"organization": org_app, "project": project_app, "cluster": cluster_app}


@dataclass
class Wired:
    """What the console hands to the commands."""

    folder: Path
    clock: Clock
    opened: Database
    capacity: object

    def database(self) -> Database:
        return self.opened

    def audit(self) -> AuditLog:
        return AuditLog(self.opened, self.clock)


@pytest.fixture
def wired(database: Database, tmp_path: Path) -> Wired:
    return Wired(tmp_path, SystemClock(), database, DatabaseCapacity(database, 8000))


def byoc(wired: Wired, *words: str) -> Result:
    return CliRunner().invoke(APPS[words[0]], words[1:], obj=wired)


@pytest.mark.slow
def test_what_the_commands_ask_for_is_done_by_the_engine_of_another_process(wired: Wired) -> None:
    assert byoc(wired, "organization", "create", "acme", "--id", "org-a").stdout == "org-a\n"
    assert byoc(wired, "project", "create", "org-a", "one", "--id", "project-a").stdout == "project-a\n"
    created = byoc(wired, "cluster", "create", "project-a", "main", "--size", "2cu", "--id", "cluster-a")
    assert created.exit_code == 0, created.exception
    assert created.stdout.split("\t")[1:] == ["cluster-a", "create", "QUEUED\n"]
    assert byoc(wired, "cluster", "list").stdout == "cluster-a\tproject-a\tmain\tCREATING\t2cu\t-\n"

    engine = Vendor(wired.opened.url.render_as_string(), wired.folder)
    assert engine.run()["states"] == {"cluster-a": "RUNNING"}

    shown = json.loads(byoc(wired, "cluster", "show", "cluster-a", "--json").stdout)
    assert (shown["state"], shown["has_drifted"], shown["generation"]) == ("RUNNING", False, 1)
    assert shown["observed"]["allocation"]["query"] == 1000
    assert byoc(wired, "organization", "list").stdout == "org-a\tacme\n"
    assert byoc(wired, "project", "list").stdout == "project-a\torg-a\tone\n"


def test_refusals_reach_the_console(wired: Wired) -> None:
    both = byoc(wired, "cluster", "create", "project-a", "main", "--size", "2cu", "--vcpu", "query=1")
    assert isinstance(both.exception, InvalidInput)
    version = byoc(wired, "cluster", "create", "project-a", "main", "--size", "2cu", "--version", "1.0")
    assert isinstance(version.exception, InvalidInput)
    assert isinstance(byoc(wired, "cluster", "show", "nobody").exception, Unknown)
    wired.capacity = None
    assert isinstance(byoc(wired, "organization", "list").exception, Refuse)


def test_nobody_waits_for_ever(wired: Wired) -> None:
    wired.capacity = Unlimited()
    byoc(wired, "organization", "create", "acme", "--id", "org-a")
    byoc(wired, "project", "create", "org-a", "one", "--id", "project-a")
    asked = byoc(wired, "cluster", "create", "project-a", "main", "--size", "1cu", "--wait", "0.2")
    assert "is QUEUED after 0.2 s" in str(asked.exception)
