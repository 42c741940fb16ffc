"""Leases and positions of a group in the SQLite log. Blocking; every method is one transaction.

A lease carries an epoch that grows each time the partition changes hands, so that a reader which lost a partition
and got it back does not go on with what it knew before. A lease is as good as its owner's membership: it ends when
the member leaves, lets its time run out, or its process dies.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from kernel.clock import Clock
from kernel.log import LeaseLost, TopicPartition
from kernel.log.groups import rebalance
from kernel.log.liveness import ProcessMark
from kernel.log.sqlite_schema import transaction


@dataclass(frozen=True, slots=True)
class Share:
    """What a member holds: epoch and committed next offset of each partition (None: none committed)."""

    generation: int
    epochs: Mapping[TopicPartition, int]
    committed: Mapping[TopicPartition, int | None]


class GroupTable:
    """One member's view of its group."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        group: str,
        ids: Mapping[TopicPartition, int],
        mark: ProcessMark,
        clock: Clock,
        lease_ms: int,
    ) -> None:
        self._connection = connection
        self._group = group
        self._ids = ids
        self._sources = {partition_id: source for source, partition_id in ids.items()}
        self._mark = mark
        self._clock = clock
        self._lease_ms = lease_ms
        self._topics = json.dumps(sorted({source.topic for source in ids}))
        self.member = f"{mark.name}-{secrets.token_hex(4)}"
        self._generation = -1
        self._renew_ms = 0

    def is_due(self) -> bool:
        """Whether the group changed or the membership must be renewed: a read without a lock."""
        query = "SELECT generation FROM groups WHERE name = ?"
        row = self._connection.execute(query, (self._group,)).fetchone()
        changed = row is None or row[0] != self._generation
        return changed or not 0 <= self._renew_ms - self._clock.now_ms() <= self._lease_ms

    def take_share(self) -> Share:
        """Renew the membership, drop dead members, give back and take what the shares of all say."""
        with transaction(self._connection):
            now_ms = self._clock.now_ms()
            before = self._load_members()
            self._drop_dead(now_ms)
            self._join(now_ms)
            members = self._load_members()
            step = rebalance(self.member, members, list(self._ids), self._load_owners())
            self._set_owner(step.release, None)
            self._set_owner(step.acquire, self.member)
            # Others look again when someone came or went, or when a partition became free.
            generation = self._bump(changed=before != members or bool(step.release))
            share = self._load_share(generation)
        self._generation = generation
        self._renew_ms = now_ms + self._lease_ms // 5
        return share

    def commit(self, next_offsets: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int]) -> None:
        """Store positions if every lease is still this member's in that epoch. Raises LeaseLost."""
        with transaction(self._connection):
            for source, next_offset in next_offsets.items():
                moved = self._connection.execute(
                    "UPDATE leases SET next_offset = ?"
                    " WHERE name = ? AND partition_id = ? AND owner = ? AND epoch = ?",
                    (next_offset, self._group, self._ids.get(source), self.member, epochs.get(source)),
                )
                if not moved.rowcount:
                    raise LeaseLost(f"{source.topic}/{source.partition} went to another reader: drop this batch")
            self._join(self._clock.now_ms())

    def leave(self) -> None:
        """Give back every partition."""
        with transaction(self._connection):
            self._remove(self.member)
            self._bump(changed=True)

    def _join(self, now_ms: int) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?)",
            (self._group, self.member, self._mark.name, self._topics, now_ms + self._lease_ms),
        )

    def _drop_dead(self, now_ms: int) -> None:
        query = "SELECT member, process, expires_ms FROM members WHERE name = ? AND member != ?"
        for member, process, expires_ms in self._connection.execute(query, (self._group, self.member)).fetchall():
            if expires_ms <= now_ms or not self._mark.is_alive(process):
                self._remove(member)

    def _remove(self, member: str) -> None:
        self._connection.execute("DELETE FROM members WHERE name = ? AND member = ?", (self._group, member))
        self._connection.execute(
            "UPDATE leases SET owner = NULL WHERE name = ? AND owner = ?", (self._group, member)
        )

    def _load_members(self) -> dict[str, frozenset[str]]:
        query = "SELECT member, topics FROM members WHERE name = ?"
        return {
            member: frozenset(json.loads(topics))
            for member, topics in self._connection.execute(query, (self._group,))
        }

    def _load_owners(self) -> dict[TopicPartition, str]:
        query = "SELECT partition_id, owner FROM leases WHERE name = ? AND owner IS NOT NULL"
        rows = self._connection.execute(query, (self._group,))
        return {self._sources[partition_id]: owner for partition_id, owner in rows if partition_id in self._sources}

    def _set_owner(self, sources: frozenset[TopicPartition], owner: str | None) -> None:
        self._connection.executemany(
            "INSERT INTO leases (name, partition_id, owner, epoch) VALUES (?, ?, ?, 1)"
            " ON CONFLICT (name, partition_id) DO UPDATE SET owner = excluded.owner, epoch = epoch + 1",
            [(self._group, self._ids[source], owner) for source in sources],
        )

    def _bump(self, *, changed: bool) -> int:
        self._connection.execute(
            "INSERT INTO groups VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET generation = generation + ?",
            (self._group, int(changed)),
        )
        query = "SELECT generation FROM groups WHERE name = ?"
        generation: int = self._connection.execute(query, (self._group,)).fetchone()[0]
        return generation

    def _load_share(self, generation: int) -> Share:
        query = "SELECT partition_id, epoch, next_offset FROM leases WHERE name = ? AND owner = ?"
        rows = self._connection.execute(query, (self._group, self.member)).fetchall()
        return Share(
            generation,
            {self._sources[partition_id]: epoch for partition_id, epoch, _ in rows},
            {self._sources[partition_id]: next_offset for partition_id, _, next_offset in rows},
        )
