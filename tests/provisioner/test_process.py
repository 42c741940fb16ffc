"""Detached processes: found again, never mistaken, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.local import process
from provisioner.local.process import LaunchFailed, ProcessIdentity, identify, launch


def test_a_launched_process_is_nobodys_child_in_a_session_of_its_own(tmp_path: Path) -> None:
    identity = launch(["/bin/sleep", "60"], {"A": "b c"}, tmp_path, tmp_path / "log")
    try:
        assert identity.is_alive()
        assert os.getsid(identity.pid) != os.getsid(0)
        parent = Path(f"/proc/{identity.pid}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) != os.getpid()
        assert process.environment_of(identity.pid)["A"] == "b c"
        assert "HOME" not in process.environment_of(identity.pid), "nothing of ours is inherited"
    finally:
        assert process.end(identity, 5, 5)
    assert not identity.is_alive()
    assert process.end(identity, 5, 5), "ending what is gone is no error"


def test_its_output_is_kept(tmp_path: Path) -> None:
    identity = launch(["/bin/sh", "-c", "echo hello; sleep 60"], {}, tmp_path, tmp_path / "log")
    wait_for(lambda: (tmp_path / "log").read_text() == "hello\n")
    process.end(identity, 5, 5)


def test_a_program_that_is_missing_does_not_run_and_the_log_says_why(tmp_path: Path) -> None:
    with suppress(LaunchFailed):  # the forked shell may be seen for a moment
        gone = launch(["/nowhere/milvus"], {}, tmp_path, tmp_path / "log")
        wait_for(lambda: not gone.is_alive())
    assert "/nowhere/milvus" in (tmp_path / "log").read_text()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 1; done"
    identity = launch(["/bin/sh", "-c", script], {}, tmp_path, tmp_path / "log")
    wait_for(lambda: (tmp_path / "log").read_text() == "ready\n")
    assert process.end(identity, 0.2, 5)
    assert not identity.is_alive()


def test_a_recycled_pid_is_another_process(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.is_alive()
    for stranger in (replace(me, start_ticks=me.start_ticks - 1), replace(me, boot="another boot")):
        assert not stranger.is_alive()
        assert process.end(stranger, 5, 5), "and is not signalled: this test goes on"


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    identity = identify(child.pid)
    assert identity is not None
    child.send_signal(signal.SIGKILL)
    wait_for(lambda: not identity.is_alive())
    assert Path(f"/proc/{child.pid}").exists(), "not reaped yet"
    child.wait()


@pytest.mark.parametrize("record", [None, {}, {"pid": "x", "start_ticks": 1, "boot": "b"}, {"pid": 1, "boot": "b"}])
def test_a_record_that_is_none_names_no_process(record: dict[str, object] | None) -> None:
    assert ProcessIdentity.parse(record) is None


def wait_for(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read another user's environment")
def test_another_users_process_is_never_taken_for_ours() -> None:
    """Anyone may start a process that says it is a cluster's server; it would be billed by, and ended by us."""
    environment = {"BYOC_TEST_FOLDER": "/a/b", "PATH": os.defpath}
    stranger = subprocess.Popen(["/bin/sleep", "60"], env=environment, user=65534)
    own = subprocess.Popen(["/bin/sleep", "60"], env=environment)
    try:
        wait_for(lambda: process.environment_of(own.pid) and process.environment_of(stranger.pid))
        assert [found.pid for found in process.find_by_environment("BYOC_TEST_FOLDER", "/a/b")] == [own.pid]
    finally:
        for child in (stranger, own):
            child.kill()
            child.wait()
