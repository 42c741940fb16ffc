"""A customer installs the collector alone: the wheel without extras, in an empty environment."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from billing.licence_file import sign_licence
from collector.native import KeyTable
from metering.gateway.native import Reader
from tests.billing.deals import licence_text
from tests.collector.world import Page, ScriptedGateway, run_gateway, run_target, static_job, until, write_config

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def byoc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the wheel, installed where nothing of the vendor's side is."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    [wheel] = folder.glob("byoc-*.whl")
    uv = Path(sys.executable).with_name("uv")
    python = folder / "venv" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "locks" / "base.txt")
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
    installed = run(uv, "pip", "list", "--python", python).lower()
    for vendor_only in ("sqlalchemy", "duckdb", "pyiceberg", "boto3", "dbos", "aiokafka"):
        assert vendor_only not in installed
    return python.with_name("byoc")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_explains_itself_and_checks_a_file(byoc: Path, tmp_path: Path) -> None:
    assert "collector" in run(byoc, "--help", cwd=tmp_path)
    example = ROOT / "deploy" / "collector.example.yaml"
    assert run(byoc, "collector", "run", "-c", example, "--check-config", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_verifies_an_invoice(byoc: Path, tmp_path: Path) -> None:
    """A bundle that was written once, checked where nothing of the vendor's side is, and one byte of it changed."""
    copied = shutil.copytree(ROOT / "tests" / "golden" / "bundle", tmp_path / "bundle")
    authority = ROOT / "tests" / "golden" / "bundle-ca.pem"
    assert run(byoc, "verify-invoice", copied, "--ca", authority, cwd=tmp_path).endswith("-000002 verified\n")
    rows = copied / "rows.tsv"
    rows.write_bytes(rows.read_bytes().replace(b"16000", b"16001", 1))
    command: list[str | Path] = [byoc, "verify-invoice", copied, "--ca", authority]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rows.tsv" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_checks_a_licence_and_a_catalogue(byoc: Path, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    text = sign_licence(licence_text(valid=("2000-01-01", "2200-01-01")), key, "licence.yaml")
    (tmp_path / "licence.yaml").write_text(text)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "vendor.pem").write_bytes(pem)
    said = run(byoc, "licence", "check", "licence.yaml", "--public-key", "vendor.pem", cwd=tmp_path)
    assert "signature fits" in said
    assert "sha256" in run(byoc, "meters", "check", ROOT / "metering" / "meters" / "milvus.yaml", cwd=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # no folder begun


def scraped(gateway: ScriptedGateway) -> list[float]:
    return [value for series, _, value in gateway.rows() if series.startswith("milvus_n")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_has_the_compiled_kernels_where_there_is_a_compiler(byoc: Path, tmp_path: Path) -> None:
    code = (
        "from collector.native import KeyTable; from metering.gateway.native import Reader; print(KeyTable, Reader)"
    )
    found = run(byoc.with_name("python"), "-c", code, cwd=tmp_path).strip()
    assert found == f"{KeyTable} {Reader}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_built_without_a_compiler_too(tmp_path: Path) -> None:
    copied = tmp_path / "source"
    shutil.copytree(ROOT, copied, ignore=shutil.ignore_patterns(".*", "*.so", "tests", "demo-out"))
    environment = {**os.environ, "CC": "no-such-compiler"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=copied, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.whl")] == [f"byoc-{version('byoc')}-py3-none-any.whl"]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_it_scrapes_and_pushes_over_mutual_tls_until_it_is_told_to_stop(byoc: Path, tmp_path: Path) -> None:
    page = Page(lambda number: b"milvus_n %d\n" % number)
    async with run_gateway(tmp_path) as gateway, run_target(page) as port:
        config = write_config(tmp_path, gateway.url, scrape_configs=[static_job(port)])
        process = await asyncio.create_subprocess_exec(
            byoc, "collector", "run", "-c", config, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
        )
        waiting = asyncio.create_task(process.communicate())
        try:
            await until(lambda: bool(scraped(gateway)) or waiting.done(), 60)  # each lane is pushed by itself
            if not waiting.done():
                process.terminate()
            _, errors = await asyncio.wait_for(waiting, 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, errors.decode()
    assert gateway.enrolments == ["enrol"]
    assert scraped(gateway)[0] == 1.0
    left = run(byoc, "collector", "left", "-c", config, cwd=tmp_path)
    assert "milvus_n\t1\t" in left


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [["up"], ["lake", "info"], ["invoice", "list"]], ids=" ".join)
def test_the_vendors_commands_say_in_one_line_what_is_missing(
    byoc: Path, tmp_path: Path, command: list[str]
) -> None:
    done = subprocess.run([byoc, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "byoc[vendor]" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []  # no folder begun
