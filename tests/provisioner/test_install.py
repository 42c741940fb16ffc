"""The Milvus cache: pinned by hash, whole or not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from provisioner.local import install as module
from provisioner.local.install import Installation, InstallFailed, install, installation, is_installed, main

LOCK = Path(module.__file__).parent.parent / "milvus-2.3.5.lock"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Stands in for the package index and the archive alone; what was done, in order."""
    done: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def packages(target: Installation) -> None:
        target.python.parent.mkdir(parents=True)
        done.append("packages")

    def unpack(target: Installation) -> None:
        target.binaries.mkdir(parents=True)
        done.append("unpack")

    monkeypatch.setattr(module, "_install_packages", packages)
    monkeypatch.setattr(module, "_unpack", unpack)
    return done


def test_every_package_is_pinned_with_a_hash_and_no_registry_is_named() -> None:
    text = LOCK.read_text()
    assert "://" not in text
    pins = re.findall(r"^([a-z0-9-]+)==([^ ]+) \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    assert {("milvus", "2.3.5"), ("pymilvus", "2.3.7")} <= set(pins)


def test_it_is_made_once_in_the_cache_of_the_user(builds: list[str], tmp_path: Path) -> None:
    assert not is_installed("2.3.5")
    lines: list[str] = []
    assert install("2.3.5", lines.append) == install("2.3.5") == installation("2.3.5")
    assert installation("2.3.5").folder == tmp_path / "byoc" / "milvus-2.3.5"
    assert builds == ["packages", "unpack"]
    assert len(lines) == 3


def test_what_was_left_half_made_is_made_anew(builds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_target: Installation) -> None:
        raise InstallFailed("no network")

    with monkeypatch.context() as broken:
        broken.setattr(module, "_unpack", fail)
        with pytest.raises(InstallFailed):
            install("2.3.5")
    assert not is_installed("2.3.5")
    install("2.3.5")
    assert is_installed("2.3.5")
    assert builds == ["packages", "packages", "unpack"]


def test_another_lock_file_makes_it_anew(builds: list[str]) -> None:
    install("2.3.5")
    installation("2.3.5").marker.write_text("the digest of an older lock file")
    install("2.3.5")
    assert builds == ["packages", "unpack"] * 2


@pytest.mark.parametrize("version", ["9.9.9", "", "../2.3.5", "2.3.5 "])
def test_a_version_without_a_lock_file_is_refused(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"allowed: 2\.3\.5"):
        install(version)
    assert main([version]) == 2
    assert "2.3.5" in capsys.readouterr().err
