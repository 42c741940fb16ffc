"""What answers asks for short slices, what decodes has the usual ones and a lower share; a tenant sees neither."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from metering.gateway import scheduling
from metering.gateway.scheduling import answer_soon, give_way, slice_ns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no slices of their own elsewhere")


def in_thread(work: Callable[[], object]) -> Any:
    """What `work` says in a thread of its own, which takes its settings with it."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def usual() -> int:
    usual = in_thread(slice_ns)
    if not isinstance(usual, int):
        pytest.skip("this kernel has no slices that a thread may ask for")
    return usual


def test_what_answers_has_a_shorter_slice_than_what_decodes(usual: int) -> None:
    def ask() -> tuple[object, object]:
        answer_soon()
        ours = slice_ns()

        def decode() -> tuple[object, int]:
            inherited = slice_ns()
            give_way()
            assert inherited == ours
            return slice_ns(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        return ours, in_thread(decode)

    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    short, decoding = in_thread(ask)
    assert short < usual
    assert decoding == (usual, min(19, nice + 5))
    assert in_thread(slice_ns) == usual


@pytest.mark.parametrize("machine", ["x86_64", "riscv64", "a toaster"])
def test_where_there_is_no_such_call_nothing_happens(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(scheduling, "_CALLS", {"x86_64": (10**6, 10**6)})  # a call that the kernel does not have

    def ask() -> int | None:
        answer_soon()
        return slice_ns()

    assert in_thread(ask) is None


def test_real_time_threads_are_left_as_they_are() -> None:
    def ask() -> tuple[int, int] | None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            return None
        answer_soon()
        return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority

    found = in_thread(ask)
    if found is None:
        pytest.skip("real time needs a privilege")
    assert found == (os.SCHED_FIFO, 1)
