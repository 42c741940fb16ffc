"""Everyday faults are one line and an exit status, never a traceback and never a password."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from console.cli import CREATING, GROUPS, main
from kernel.deployment import Deployment

PASSWORD = "hunter2-hunter2"

READING = [
    "alerts list",
    "alerts deliveries",
    "alerts receivers",
    "alerts enable on-call",
    "alerts forget acme/prod c-1",
    "audit verify",
    "audit export",
    "ca show",
    "cluster list",
    "cluster show c-1",
    "cluster suspend c-1",
    "contract list",
    "contract show acme",
    "credit list acme",
    "enrol list",
    "enrol create --organization acme --project prod --collector c-1",
    "export focus acme --from 2026-01 --to 2026-01 --out {tmp}/out",
    "invoice list",
    "invoice show X-1",
    "invoice pdf X-1",
    "invoice draft acme 2026-01",
    "invoice finalize acme 2026-01",
    "lake info",
    "licence show acme",
    "marketplace list acme",
    "organization list",
    "price show list-prices",
    "project list",
    "project create acme Production",
    "receivables ageing acme",
    "revoke collector --organization acme --project prod --collector c-1 --reason gone",
    "revoke serial ab --reason gone",
    "usage hours acme --from 2026-01-01 --to 2026-01-02",
    "usage gaps acme --from 2026-01-01 --to 2026-01-02",
    "usage report acme 2026-01 --out {tmp}/out",
    "close 2026-01 --organization acme --out {tmp}/out",
]


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    """Exit status, and what went to standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    status = ended.value.code
    return status if isinstance(status, int) else 0, capsys.readouterr().err


def test_every_group_is_tried_where_there_is_no_vendor_side() -> None:
    assert {words.split()[0] for words in READING} - {"close"} == set(GROUPS) - {"collector", "meters", "license"}


@pytest.mark.parametrize("words", READING)
def test_a_mistyped_folder_is_not_made(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent"
    status, said = run(capsys, "--dir", absent, *words.format(tmp=tmp_path).split())
    assert status == 1, said
    assert said.startswith("error: no "), said
    assert str(absent) in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_error_says_what_makes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = run(capsys, "--dir", tmp_path, "audit", "verify")
    assert f"no vendor side in {tmp_path}: `byoc --dir {tmp_path} up` makes one, or name another" in said
    config = tmp_path / "vendor.yaml"
    config.write_text("deployment: {folder: state}\n", encoding="utf-8")
    _, said = run(capsys, "-c", config, "audit", "verify")
    assert f"no vendor side in {tmp_path / 'state'}: `byoc -c {config} up`" in said


def test_a_command_that_creates_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {word.split()[0] for word in CREATING} <= {*GROUPS, "up"}
    assert run(capsys, "--dir", tmp_path / "a", "organization", "create", "Acme", "--id", "acme") == (0, "")
    assert run(capsys, "--dir", tmp_path / "a", "organization", "list") == (0, "")
    assert run(capsys, "--dir", tmp_path / "b", "ca", "init")[0] == 0
    assert run(capsys, "--dir", tmp_path / "b", "ca", "show")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", ["up", "organization list", "close 2026-01 --organization a --out x", "demo"])
def test_the_base_install_names_what_is_missing(words: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('sqlalchemy', 'pyarrow', 'dbos'): sys.modules[name] = None\n"
        "from console.cli import main\nmain()"
    )
    command = [sys.executable, "-c", program, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "install byoc[vendor]" in done.stderr


def test_a_database_that_can_not_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql+psycopg://byoc:{PASSWORD}@127.0.0.1:1/byoc"
    monkeypatch.setenv("BYOC_DEPLOYMENT__DATABASE__URL", url)
    status, said = run(capsys, "--dir", tmp_path, "organization", "list")
    assert status == 1
    assert len(said.splitlines()) == 1, said
    assert said.startswith("error: ")
    assert PASSWORD not in said


def test_a_file_that_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "byoc.sqlite").write_bytes(b"not a database" * 100)
    status, said = run(capsys, "--dir", tmp_path, "organization", "list")
    assert (status, said) == (1, "error: database: file is not a database\n")


def test_a_folder_that_can_not_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "--dir", "/dev/null/x", "organization", "create", "Acme")
    assert status == 1
    assert said == "error: Not a directory: /dev/null/x\n"


def test_an_error_of_the_system_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Deployment) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "byoc.sqlite"))

    monkeypatch.setattr(Deployment, "database", denied)
    status, said = run(capsys, "--dir", tmp_path, "price", "add", "deploy/examples/prices.yaml")
    assert (status, said) == (1, f"error: Permission denied: {tmp_path / 'byoc.sqlite'}\n")


def test_help_of_a_command_needs_no_vendor_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--dir", tmp_path / "absent", "invoice", "list", "--help") == (0, "")
