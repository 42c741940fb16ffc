"""What workers share: exact in total, whoever asks, and nothing is lost to a worker that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.wire.frames import FrameLimits, GroupGuard, join_blocks, open_body
from kernel.ids import OrganizationId, ProjectId, Tenant
from metering.gateway.settings import TenantLimits
from metering.gateway.shares import (
    GROUP_IDLE_SECONDS,
    OWN_PLACES,
    MemoryShares,
    Shares,
    SqliteShares,
    create_shares,
)
from tests.identity.world import ACME, OTHER
from tests.wire.frames.world import Target, entry

LIMITS_OF_FRAMES = FrameLimits()
LIMITS = TenantLimits(samples_per_second=10, burst_samples=100, active_series=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "shares.sqlite"
    create_shares(made)
    return made


Make = Callable[[int], Shares]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, path: Path) -> Make:
    """The shares of a worker by its number; memory has one worker."""
    memory = MemoryShares(LIMITS)
    if request.param == "memory":
        return lambda number: memory
    return lambda number: SqliteShares(path, number, LIMITS)


def test_a_rate_is_one_for_all_workers(make: Make) -> None:
    buckets = [make(1).bucket(ACME, 0.0)]
    buckets += [make(2).bucket(ACME, 0.0)] if isinstance(make(1), SqliteShares) else buckets
    first, second = buckets
    assert first.take(60, 0.0) == 0
    assert second.take(60, 0.0) == pytest.approx(2.0)
    assert second.take(40, 0.0) == 0
    first.give_back(40)
    second.charge(90, 0.0)
    assert first.wait_seconds(1, 0.0) == pytest.approx(5.1)
    assert not first.is_full(14.9)
    assert second.is_full(15.0)
    assert make(1).bucket(OTHER, 0.0).take(100, 0.0) == 0


def test_places_never_exceed_the_limit_together(make: Make) -> None:
    first, second = make(1), make(2)
    lane = "acme/prod/c/billing"
    assert first.hold(ACME, OWN_PLACES, 4) == 4
    assert second.hold(ACME, lane, 5) == 5
    assert first.hold(ACME, OWN_PLACES, 9) == 5
    assert first.hold(OTHER, OWN_PLACES, 11) == 10
    assert first.hold(ACME, OWN_PLACES, 2) == 2
    assert second.hold(ACME, lane, 9) == 8
    first.forget(ACME)
    assert second.hold(ACME, lane, 20) == 10


def test_a_worker_that_comes_back_holds_what_it_needs_anew(path: Path) -> None:
    first, second = SqliteShares(path, 1, LIMITS), SqliteShares(path, 2, LIMITS)
    first.hold(ACME, OWN_PLACES, 6)
    assert second.hold(ACME, OWN_PLACES, 6) == 4
    SqliteShares(path, 1, LIMITS)
    assert second.hold(ACME, OWN_PLACES, 6) == 6


def guard_of(*scrapes: int) -> tuple[GroupGuard, list[bytes]]:
    target, guard = Target(keyframe_every=100), GroupGuard()
    bodies = []
    for count in scrapes:
        tick, _ = target.scrape({entry("up", number=str(number)): 1.0 for number in range(count)})
        bodies.append(join_blocks(1, target.encoder.encode(tick, 1)))
        guard.apply(open_body(bodies[-1], LIMITS_OF_FRAMES))
    return guard, bodies


def test_what_one_worker_knows_of_a_group_the_others_do(path: Path) -> None:
    first, second = SqliteShares(path, 1, LIMITS), SqliteShares(path, 2, LIMITS)
    guard, bodies = guard_of(3, 5)
    assert second.load_group("lane", "7.1", 0) is None
    assert first.save_group("lane", "7.1", 0, guard, 1.0) == 1
    found = second.load_group("lane", "7.1", 0)
    assert found is not None
    version, same = found
    assert (version, same.series) == (1, 5)
    same.check(open_body(bodies[1], LIMITS_OF_FRAMES))
    assert first.load_group("lane", "7.1", 1) is None
    assert second.save_group("lane", "7.1", 1, same, 2.0) == 2
    assert first.save_group("lane", "7.1", 1, guard, 2.0) is None, "another was faster"
    first.drop_group("lane", "7.1")
    assert second.load_group("lane", "7.1", 0) is None


def test_three_groups_of_a_lane_are_kept_for_an_hour(path: Path) -> None:
    shares = SqliteShares(path, 1, LIMITS)
    for number in range(5):
        shares.save_group("lane", f"7.{number}", 0, GroupGuard(), float(number))
    assert [number for number in range(5) if shares.load_group("lane", f"7.{number}", 0)] == [2, 3, 4]
    shares.hold(ACME, "acme/prod/c/billing", 8)
    shares.forget_idle(GROUP_IDLE_SECONDS + 5)
    assert shares.load_group("lane", "7.4", 0) is None
    assert shares.hold(ACME, OWN_PLACES, 10) == 10, "who has no group holds no place"


TAKER = """
import sys, time
from pathlib import Path
from kernel.ids import OrganizationId, ProjectId, Tenant
from metering.gateway.settings import TenantLimits
from metering.gateway.shares import SqliteShares
limits = TenantLimits(samples_per_second=1e-9, burst_samples=3000, active_series=10)
bucket = SqliteShares(Path(sys.argv[1]), int(sys.argv[2]), limits).bucket(
    Tenant(OrganizationId("acme"), ProjectId("prod")), 0.0
)
print("ready", flush=True)
sys.stdin.readline()
taken = 0
while bucket.take(1, 0.0) == 0:
    taken += 1
    print(taken, flush=True)
    time.sleep(0.0005)  # the lock is not fair: who never pauses takes all
"""


@pytest.mark.slow
def test_a_killed_worker_leaves_no_lock_and_loses_nothing(path: Path) -> None:
    """Three processes take from one bucket in turns, one is killed in the middle of it."""
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(3)
    ]
    for taker in takers:
        assert taker.stdout
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:  # all of them have the file open before one takes
        assert taker.stdin
        taker.stdin.write("go\n")
        taker.stdin.close()
    victim = takers[0]
    assert victim.stdout
    counts = [0, 0, 0]
    for line in victim.stdout:
        counts[0] = int(line)
        if counts[0] == 50:
            os.kill(victim.pid, signal.SIGKILL)
            break
    for number, taker in enumerate(takers):
        assert taker.stdout
        counts[number] = max([counts[number], *map(int, taker.stdout.read().split())])
        taker.wait()
        taker.stdout.close()
    assert victim.returncode == -signal.SIGKILL, f"it was never killed, it took {counts[0]}"
    assert 3000 - sum(counts) in (0, 1), "the victim may have taken one without having said so"
    left = SqliteShares(path, 9, LIMITS).bucket(Tenant(OrganizationId("acme"), ProjectId("prod")), 0.0)
    assert left.wait_seconds(1, 0.0) > 0
