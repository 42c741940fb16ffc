"""The ledger of what left the VPC: a hash chain of entries, each with counts and bytes by metric family.

A frame is counted when the gateway has acknowledged it, before the spool forgets it, and once: the ledger keeps the
sequences that it counted. An entry takes what is acknowledged within a minute; older ones are rolled up by hour,
then by day, and a checkpoint in the chain attests the sums. Changes of the policy, gaps and stops of shipping are
entries too. Bytes by family are those of the body before compression. SQLite in the spool folder.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from collector import left_store as store
from collector.left_chain import Entry, Head, Kind, LedgerBroken, canonical
from collector.left_known import KnownSeries
from collector.left_meta import FrameMeta, LeftFrame, parse_meta
from collector.left_read import FamilyLeft, LeftReader
from collector.left_rollup import Retention, roll_up
from collector.left_sums import Ranges, ReceiverSum, SentFrame, Sum, add_families, add_range, bound, has
from collector.policy_changes import LastPolicy, PolicyChange
from collector.policy_settings import PolicyDocument
from collector.wire.headers import PushLane
from kernel.clock import Clock
from kernel.logs import logger

_log = logger("left")
UNKNOWN_FAMILY = "(unknown)"
RECEIVER_LANE = "remote_write:"  # before a receiver's name, where its counted numbers are kept
OPEN_MS = 60_000  # how long an entry takes more
ROLL_UP_EVERY_MS = 3_600_000
MAX_RULES_BYTES = 256 * 1024  # of a policy, kept in its entry


@dataclass(slots=True)
class _Open:
    """The entry that takes more, and what this process knows beside it. Void once another process wrote."""

    entry: Entry | None = None
    sum: Sum | None = None
    digest: Any = field(default_factory=sha256)
    listed: int = 0  # series in the table
    ranges: dict[tuple[str, int], Ranges] = field(default_factory=dict)
    head: Head | None = None


class LeftLedger:
    """Blocking throughout; threads and processes take turns."""

    def __init__(self, path: Path, clock: Clock, max_series: int, retention: Retention | None = None) -> None:
        self.path = path
        self._clock = clock
        self._max_series = max_series
        self._retention = retention or Retention()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._open = _Open()
        self._known = KnownSeries()
        self._rolled_up_ms = 0
        self._metas: dict[bytes, FrameMeta] = {}

    def open(self) -> None:
        """Create or open; a file that is no ledger is moved aside, and said so. Idempotent."""
        with self._lock:
            if self._connection is not None:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._connection = store.open_ledger(self.path)
            except sqlite3.DatabaseError as error:
                aside = self.path.with_name(f"{self.path.name}.damaged-{self._clock.now_ms()}")
                self.path.replace(aside)
                for end in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + end).unlink(missing_ok=True)
                _log.error("ledger_damaged", moved_to=str(aside), error=str(error))
                self._connection = store.open_ledger(self.path)

    def close(self) -> None:
        """Let the file go. Idempotent."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._open, self._known = _Open(), KnownSeries()

    def count(self, frames: Sequence[LeftFrame]) -> None:
        """Add frames that the gateway has, in one transaction; those that were added before are passed over.

        Raises sqlite3.Error; then none of them was added.
        """
        self._count_all(lambda current, number, now: self._add_frames(current, frames, number, now))

    def count_sent(self, receiver: str, frames: Sequence[SentFrame]) -> None:
        """Add what went to a receiver of `remote_write`, in the same way. Raises sqlite3.Error."""
        self._count_all(lambda current, _number, _now: self._add_sent(current, receiver, frames))

    def _count_all(self, add: Callable[[_Open, int, int], bool]) -> None:
        with self._lock:
            try:
                with store.transaction(self._connected()):
                    self._count(add)
            except BaseException:
                self._open, self._known = _Open(), KnownSeries()
                raise
            self._roll_up()

    def gap(self, lane: PushLane, fields: Mapping[str, int | str | None]) -> None:
        """A gap of the spool: what will not leave, with its reason. Raises sqlite3.Error."""
        self._append(
            Kind.GAP, {"lane": lane.value, **{name: one for name, one in fields.items() if one is not None}}
        )

    def policy_changed(self, change: PolicyChange) -> None:
        """Another policy took effect. Raises sqlite3.Error."""
        rules = change.rules.model_dump(mode="json")
        fields = {
            "source": change.source,
            "mode": change.mode,
            "sha256": change.digest,
            "version": change.version,
            "pseudonym_key": change.key,
            "changes": list(change.summary),
        }
        if len(json.dumps(rules)) <= MAX_RULES_BYTES:
            fields["rules"] = rules
        self._append(Kind.POLICY, fields)

    def shipping_changed(self, reason: str | None) -> None:
        """Shipping stopped for this reason, or goes on. Raises sqlite3.Error."""
        self._append(Kind.SHIPPING, {"stopped": reason is not None, "reason": reason or ""})

    def last_policy(self) -> LastPolicy | None:
        """The last change of the policy that is written down; None after a retention without one."""
        with self._lock:
            entry = store.last_entry(self._connected(), Kind.POLICY)
        if entry is None:
            return None
        fields = entry.fields()
        try:
            rules = PolicyDocument.model_validate(fields["rules"])
        except (KeyError, ValueError):  # of another version of byoc, or too long
            rules = None
        return LastPolicy(str(fields.get("sha256")), str(fields.get("pseudonym_key")), rules)

    def families(self) -> list[FamilyLeft]:
        """What left, by family; `LeftReader` answers more."""
        reader = LeftReader(self.path)
        try:
            return reader.families()
        finally:
            reader.close()

    def head(self) -> Head:
        """The last entry."""
        with self._lock:
            return store.head(self._connected())

    def _append(self, kind: Kind, fields: Mapping[str, Any]) -> None:
        with self._lock:
            connection = self._connected()
            self._open = _Open()
            with store.transaction(connection):
                store.append(connection, store.head(connection), self._clock.now_ms(), kind, canonical(fields))

    def _add_frames(self, current: _Open, frames: Sequence[LeftFrame], number: int, now: int) -> bool:
        connection, added = self._connected(), False
        for frame in frames:
            if self._is_new(connection, current, (frame.lane.value, frame.epoch), frame.sequence):
                self._add(connection, current, frame, number, now)
                added = True
        return added

    def _add_sent(self, current: _Open, receiver: str, frames: Sequence[SentFrame]) -> bool:
        connection, added = self._connected(), False
        assert current.sum is not None
        for frame in frames:
            key = f"{RECEIVER_LANE}{receiver}", frame.epoch
            if not self._is_new(connection, current, key, frame.sequence):
                continue
            total = current.sum.receiver(receiver)
            total.merge(ReceiverSum(1, frame.samples, frame.size))
            unknown = {UNKNOWN_FAMILY: (frame.samples, frame.size)}
            add_families(total.families, parse_meta(frame.meta).families if frame.meta else unknown)
            self._note_counted(current, key, frame.sequence)
            added = True
        return added

    def _count(self, add: Callable[[_Open, int, int], bool]) -> None:
        connection, now = self._connected(), self._clock.now_ms()
        current = self._current(connection, now)
        assert current.sum is not None
        number = current.entry.sequence if current.entry else store.head(connection).sequence + 1
        if not add(current, number, now):
            return
        for (lane, epoch), ranges in current.ranges.items():
            store.save_ranges(connection, lane, epoch, ranges)
        current.sum.to_ms = now
        if current.sum.new:
            current.sum.new_digest = current.digest.hexdigest()
        content = canonical(current.sum.render())
        if current.entry is None:
            current.entry = store.append(connection, store.head(connection), now, Kind.LEFT, content)
        else:
            current.entry = store.rewrite(connection, current.entry, content)
        current.head = Head(current.entry.sequence, current.entry.hash)

    def _current(self, connection: sqlite3.Connection, now: int) -> _Open:
        current = self._open
        fresh = current.entry is not None and 0 <= now - current.entry.at_ms < OPEN_MS
        if not fresh or current.head != store.head(connection):
            (listed,) = connection.execute("SELECT count(*) FROM series").fetchone()
            current = self._open = _Open(sum=Sum(now, now), listed=listed)
        return current

    @staticmethod
    def _is_new(connection: sqlite3.Connection, current: _Open, key: tuple[str, int], sequence: int) -> bool:
        if key not in current.ranges:
            current.ranges[key] = store.load_ranges(connection, *key)
        return not has(current.ranges[key], sequence)

    @staticmethod
    def _note_counted(current: _Open, key: tuple[str, int], sequence: int) -> None:
        add_range(current.ranges[key], sequence, sequence)
        bound(current.ranges[key], store.MAX_RANGES)

    def _add(self, connection: sqlite3.Connection, current: _Open, frame: LeftFrame, number: int, now: int) -> None:
        assert current.sum is not None
        for packed in frame.metas:
            meta = self._meta(frame, packed)
            current.sum.add_families(meta.families)
            if meta.new:
                self._list(connection, current, meta, number, now)
        lane = current.sum.lane(frame.lane.value, frame.epoch)
        add_range(lane.ranges, frame.sequence, frame.sequence)
        lane.frames += 1
        lane.samples += frame.samples
        lane.bytes += len(frame.payload)
        self._note_counted(current, (frame.lane.value, frame.epoch), frame.sequence)

    def _list(self, connection: sqlite3.Connection, current: _Open, meta: FrameMeta, number: int, now: int) -> None:
        assert current.sum is not None
        new, over = self._known.list_new(connection, meta.new, self._max_series - current.listed)
        current.sum.unlisted += over
        if new:
            current.listed += len(new)
            current.sum.new += len(new)
            current.digest.update(store.list_series(connection, number, now, new))

    def _meta(self, frame: LeftFrame, packed: bytes) -> FrameMeta:
        """The same bytes come again and again: a target's families seldom change."""
        found = self._metas.get(packed)
        if found is not None:
            return found
        try:
            meta = parse_meta(packed)
        except ValueError as error:
            _log.error("frame_not_listed", sequence=frame.sequence, error=str(error))
            meta = FrameMeta({UNKNOWN_FAMILY: (frame.samples, len(frame.payload))})
        if not meta.new:
            if len(self._metas) >= 256:
                self._metas.clear()
            self._metas[packed] = meta
        return meta

    def _roll_up(self) -> None:
        now = self._clock.now_ms()
        if 0 <= now - self._rolled_up_ms < ROLL_UP_EVERY_MS:
            return
        self._rolled_up_ms = now
        try:
            with store.transaction(self._connected()):
                if roll_up(self._connected(), now, self._retention):
                    self._open = _Open()
        except (LedgerBroken, sqlite3.Error) as error:
            # What was counted is safe; nothing may hide a broken place by summing over it.
            self._open = _Open()
            _log.error("ledger_not_rolled_up", error=str(error))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        return self._connection
