"""`byoc collector left`: nothing of a name is cut, in a pipe or on a terminal, and no name does anything to it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from collector.labels import make_labels
from collector.left import LeftLedger
from collector.left_meta import FrameMeta, listed
from collector.spool.frame import Frame
from collector.wire.headers import PushLane
from kernel.clock import VirtualClock
from tests.collector.world import write_config

LONG = "milvus_" + "very_" * 30 + "long"
LABELS = make_labels({"__name__": LONG, "cluster": "c" * 120, "note": "[/red]\ta\x1b[2Jb"})
SERIES = f'{LONG}{{cluster="{"c" * 120}",note="[/red]\\ta\\x1b[2Jb"}}'
TIME = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The command on a ledger with one frame in it."""
    config = write_config(tmp_path, "https://g.example")
    (tmp_path / "spool").mkdir()
    ledger = LeftLedger(tmp_path / "spool" / "left.sqlite", VirtualClock(), 100)
    ledger.open()
    meta = FrameMeta({LONG: (3, 210)}, [listed(LONG, LABELS)])
    ledger.count([Frame(1, 1, PushLane.BILLING, None, 3, meta.render(), b"x" * 40)])
    ledger.close()
    return [sys.executable, "-m", "collector", "left", "-c", str(config)]


def piped(command: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.slow
def test_a_pipe_gets_whole_rows_with_tabs(command: list[str]) -> None:
    families = piped(command)
    assert families.stdout.splitlines() == [
        "family\tseries\tsamples\tbytes\tfirst left\tlast left",
        f"{LONG}\t1\t3\t210\t{TIME}\t{TIME}",
    ]
    assert families.stderr == "1 series listed, 0 only counted; 3 samples in 1 frames, 40 bytes sent, compressed\n"
    assert piped(command, "--series").stdout.splitlines() == ["series\tfirst left", f"{SERIES}\t{TIME}"]


@pytest.mark.slow
def test_json_holds_names_as_they_are(command: list[str]) -> None:
    document = json.loads(piped(command, "--series", "--json").stdout)
    assert document["families"][0]["name"] == LONG
    assert "\x1b[2J" in document["series"][0]["series"]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--series", "--limit=10"])
def test_a_terminal_gets_a_table_in_which_long_names_are_folded(command: list[str], option: str) -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    process = subprocess.Popen([*command, option], stdout=child, stderr=subprocess.PIPE, env=environment)
    os.close(child)
    shown = b""
    try:
        while chunk := os.read(parent, 65_536):
            shown += chunk
    except OSError:  # how a pseudo-terminal ends
        pass
    os.close(parent)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    text = shown.decode()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b[2J" not in text
    cells = [re.split("[│┃|]", line)[1].strip() for line in text.splitlines() if re.search("[│|]", line)]
    assert "".join(cells).endswith(SERIES if option == "--series" else LONG)
