"""`byoc audit` on an embedded folder."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from console.migrate import migrate
from kernel.audit import AuditBroken
from kernel.cli import audit_app
from kernel.clock import VirtualClock
from kernel.deployment import Deployment
from kernel.errors import InvalidInput


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment.embedded(tmp_path, VirtualClock())
    migrate(made.database())
    audit = made.audit()
    for _ in range(3):
        made.database().transact(lambda connection: audit.append(connection, "finance", "price.set", "book-1", {}))
    return made


def invoke(deployment: Deployment, *arguments: str) -> str:
    result = CliRunner().invoke(audit_app, list(arguments), obj=deployment, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_verify_prints_the_head_and_takes_it_back(deployment: Deployment) -> None:
    printed = invoke(deployment, "verify")
    assert "3 rows, chain whole" in printed
    head = printed.split()[-1]
    assert head in invoke(deployment, "verify", "--head", head)
    with pytest.raises(AuditBroken, match="row 3"):
        invoke(deployment, "verify", "--head", head.replace(head[2:], "ab" * 32))
    with pytest.raises(InvalidInput, match="sequence:hash"):
        invoke(deployment, "verify", "--head", "nonsense")


def test_verify_names_the_first_broken_row(deployment: Deployment) -> None:
    def change(connection: sa.Connection) -> None:
        connection.execute(sa.text("DROP TRIGGER audit_events_no_update"))
        connection.execute(sa.text("UPDATE audit_events SET subject = 'x' WHERE sequence = 2"))

    deployment.database().transact(change)
    with pytest.raises(AuditBroken, match=r"row 2.*it was changed"):
        invoke(deployment, "verify")


def test_export_writes_a_file_once(deployment: Deployment, tmp_path: Path) -> None:
    assert [json.loads(line)["sequence"] for line in invoke(deployment, "export").splitlines()] == [1, 2, 3]
    out = tmp_path / "audit.jsonl"
    assert "3 rows" in invoke(deployment, "export", "--out", str(out))
    assert len(out.read_text().splitlines()) == 3
    with pytest.raises(InvalidInput, match="exists"):
        invoke(deployment, "export", "--out", str(out))
