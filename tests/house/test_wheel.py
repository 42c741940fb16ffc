"""A customer installs the collector alone: the wheel without extras, in an empty environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_without_extras_runs_the_collector(tmp_path: Path) -> None:
    """Nothing of the vendor side is installed, and the collector checks its file."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    [wheel] = tmp_path.glob("byoc-*.whl")
    uv = Path(sys.executable).with_name("uv")
    python = tmp_path / "venv" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "locks" / "base.txt")
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
    installed = run(uv, "pip", "list", "--python", python).lower()
    for vendor_only in ("sqlalchemy", "duckdb", "pyiceberg", "boto3", "dbos", "aiokafka"):
        assert vendor_only not in installed
    byoc = python.with_name("byoc")
    assert "collector" in run(byoc, "--help", cwd=tmp_path)
    example = ROOT / "deploy" / "collector.example.yaml"
    assert run(byoc, "collector", "run", "-c", example, "--check-config", cwd=tmp_path)
