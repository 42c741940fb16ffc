"""What the workers of one gateway share of a tenant's limits: its rate, its places for series, its groups.

With one worker it is memory. With several it is a SQLite file of their machine without any fsync: nothing in it
outlives the gateway. A transaction gives exact totals whoever asks, and a killed worker leaves no lock behind.
"""

from __future__ import annotations

import pickle
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from collector.wire.frames import GroupGuard
from kernel.ids import Tenant
from metering.gateway.buckets import TokenBucket
from metering.gateway.settings import TenantLimits

GROUPS_PER_LANE = 3
OWN_PLACES = ""  # the holder of places for series that come by remote write, which each worker counts for itself
GROUP_IDLE_SECONDS = 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    tenant TEXT PRIMARY KEY, level REAL NOT NULL, filled REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (
    tenant TEXT NOT NULL, holder TEXT NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (tenant, holder)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    lane TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, guard BLOB NOT NULL, used REAL NOT NULL,
    PRIMARY KEY (lane, name)
);
"""


class Bucket(Protocol):
    """The rate of one tenant. `metering.gateway.buckets` has the arithmetic; times are monotonic seconds."""

    def wait_seconds(self, amount: float, now: float) -> float: ...
    def take(self, amount: float, now: float) -> float: ...
    def charge(self, amount: float, now: float) -> None: ...
    def give_back(self, amount: float) -> None: ...
    def is_full(self, now: float) -> bool: ...


class Shares(Protocol):
    """One per process. Threads of two pushes may call it at once."""

    def bucket(self, tenant: Tenant, now: float) -> Bucket:
        """The tenant's bucket, full when nobody knew it."""

    def hold(self, tenant: Tenant, holder: str, wanted: int) -> int:
        """Hold `wanted` places for series instead of what `holder` held: how many it holds now, fewer if all are
        taken. The holders of a tenant never hold more than its limit together.
        """

    def forget(self, tenant: Tenant) -> None:
        """Drop what this process holds for a silent tenant."""

    def leave(self, tenant: Tenant, lane: str) -> None:
        """This process has no group of a lane any more."""

    def load_group(self, lane: str, name: str, version: int) -> tuple[int, GroupGuard] | None:
        """A group that another worker knows in another version than `version` (0: none), with its version."""

    def save_group(self, lane: str, name: str, version: int, guard: GroupGuard, now: float) -> int | None:
        """Keep what follows `version`; the new version, or None when another worker was faster."""

    def drop_group(self, lane: str, name: str) -> None:
        """What the log has of a group is not known any more."""

    def forget_idle(self, now: float) -> None:
        """Drop groups that nobody used for an hour."""


class MemoryShares:
    """Of one worker, which has all to itself."""

    def __init__(self, limits: TenantLimits) -> None:
        self._limits = limits
        self._held: defaultdict[Tenant, dict[str, int]] = defaultdict(dict)
        self._lock = threading.Lock()

    def bucket(self, tenant: Tenant, now: float) -> Bucket:
        return TokenBucket.full(self._limits.samples_per_second, self._limits.burst_samples, now)

    def hold(self, tenant: Tenant, holder: str, wanted: int) -> int:
        with self._lock:
            held = self._held[tenant]
            others = sum(held.values()) - held.get(holder, 0)
            held[holder] = max(0, min(wanted, self._limits.active_series - others))
            return held[holder]

    def forget(self, tenant: Tenant) -> None:
        with self._lock:
            self._held[tenant].pop(OWN_PLACES, None)

    def leave(self, tenant: Tenant, lane: str) -> None:
        with self._lock:
            self._held[tenant].pop(lane, None)

    def load_group(self, lane: str, name: str, version: int) -> tuple[int, GroupGuard] | None:
        return None

    def save_group(self, lane: str, name: str, version: int, guard: GroupGuard, now: float) -> int | None:
        return version + 1

    def drop_group(self, lane: str, name: str) -> None:
        pass

    def forget_idle(self, now: float) -> None:
        pass


def create_shares(path: Path) -> None:
    """Make the file before any worker opens it: of several that turn a new one to WAL at once, some are refused."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)
    connection.close()


class SqliteShares:
    """Of several workers of one machine."""

    def __init__(self, path: Path, worker: int, limits: TenantLimits) -> None:
        """Blocking. What a worker of this number held before it died is free again."""
        self._limits, self._worker = limits, worker
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("DELETE FROM places WHERE holder = ?", (self._named(""),))

    def bucket(self, tenant: Tenant, now: float) -> Bucket:
        return _SharedBucket(self, str(tenant), now)

    def hold(self, tenant: Tenant, holder: str, wanted: int) -> int:
        key = str(tenant), self._named(holder)
        with self.transaction() as connection:
            others = "SELECT coalesce(sum(held), 0) FROM places WHERE tenant = ? AND holder != ?"
            taken: int = connection.execute(others, key).fetchone()[0]
            held = max(0, min(wanted, self._limits.active_series - taken))
            connection.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (*key, held))
            return held

    def forget(self, tenant: Tenant) -> None:
        with self.transaction() as connection:
            connection.execute("DELETE FROM places WHERE tenant = ? AND holder = ?", (str(tenant), self._named("")))

    def leave(self, tenant: Tenant, lane: str) -> None:
        pass  # another worker may have one; `forget_idle` looks

    def load_group(self, lane: str, name: str, version: int) -> tuple[int, GroupGuard] | None:
        query = "SELECT version, guard FROM groups WHERE lane = ? AND name = ? AND version != ?"
        with self._lock:
            row = self._connection.execute(query, (lane, name, version)).fetchone()
        return (row[0], pickle.loads(row[1])) if row else None  # noqa: S301 - written by our own workers

    def save_group(self, lane: str, name: str, version: int, guard: GroupGuard, now: float) -> int | None:
        content = pickle.dumps(guard, pickle.HIGHEST_PROTOCOL)
        with self.transaction() as connection:
            query = "SELECT version FROM groups WHERE lane = ? AND name = ?"
            found = connection.execute(query, (lane, name)).fetchone()
            if (found[0] if found else 0) != version:
                return None
            row = (lane, name, version + 1, content, now)
            connection.execute("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?)", row)
            if not found:
                connection.execute(
                    "DELETE FROM groups WHERE lane = ?1 AND name NOT IN"
                    " (SELECT name FROM groups WHERE lane = ?1 ORDER BY used DESC LIMIT ?2)",
                    (lane, GROUPS_PER_LANE),
                )
            return version + 1

    def drop_group(self, lane: str, name: str) -> None:
        with self.transaction() as connection:
            connection.execute("DELETE FROM groups WHERE lane = ? AND name = ?", (lane, name))

    def forget_idle(self, now: float) -> None:
        with self.transaction() as connection:
            if connection.execute("DELETE FROM groups WHERE used < ?", (now - GROUP_IDLE_SECONDS,)).rowcount:
                gone = "DELETE FROM places WHERE holder LIKE '%/%' AND holder NOT IN (SELECT lane FROM groups)"
                connection.execute(gone)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Alone among all workers."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Idempotent. A call that is under way in a thread ends first: SQLite dies of it else."""
        with self._lock:
            self._connection.close()

    def full(self, now: float) -> TokenBucket:
        """A bucket that nobody took from."""
        return TokenBucket.full(self._limits.samples_per_second, self._limits.burst_samples, now)

    def _named(self, holder: str) -> str:
        return holder or f"worker {self._worker}"


class _SharedBucket:
    """A bucket in the file. Each call is one transaction around the arithmetic of `TokenBucket`."""

    def __init__(self, shares: SqliteShares, tenant: str, now: float) -> None:
        self._shares, self._tenant, self._made = shares, tenant, now

    def wait_seconds(self, amount: float, now: float) -> float:
        with self._loaded(now) as bucket:
            return bucket.wait_seconds(amount, now)

    def take(self, amount: float, now: float) -> float:
        with self._loaded(now) as bucket:
            return bucket.take(amount, now)

    def charge(self, amount: float, now: float) -> None:
        with self._loaded(now) as bucket:
            bucket.charge(amount, now)

    def give_back(self, amount: float) -> None:
        with self._loaded(self._made) as bucket:
            bucket.give_back(amount)

    def is_full(self, now: float) -> bool:
        with self._loaded(now) as bucket:
            return bucket.is_full(now)

    @contextmanager
    def _loaded(self, now: float) -> Iterator[TokenBucket]:
        with self._shares.transaction() as connection:
            query = "SELECT level, filled FROM buckets WHERE tenant = ?"
            row = connection.execute(query, (self._tenant,)).fetchone()
            bucket = self._shares.full(now)
            if row:
                bucket.level, bucket.filled = row
            yield bucket
            new = (self._tenant, bucket.level, bucket.filled)
            connection.execute("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)", new)
