"""The demo removes what a demo made, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from console.demo.scenario import MARK, _set


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    """A folder called `state` in somebody's folder is no proof that a demo made it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not made by the demo"):
        _set(tmp_path, Console(), None)
    assert (tmp_path / "thesis.txt").exists()


def test_a_former_demos_folder_is_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _set(out, Console(), None)
    (out / "summary.json").write_text("{}", encoding="utf-8")
    _set(out, Console(), None)
    assert (out / MARK).exists()
    assert not (out / "summary.json").exists()
