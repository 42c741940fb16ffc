"""Bounds the ledger: minutes become hours, hours days, days one total. What is summed is checked first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby, takewhile

from collector import left_store as store
from collector.left_chain import (
    GENESIS,
    Entry,
    Head,
    Kind,
    LedgerBroken,
    Rollup,
    canonical,
    check_link,
    finding,
)
from collector.left_sums import Sum

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_KEPT_ENTRIES = 2  # at the head, whatever their age


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each grain is kept, in ms."""

    minutes_ms: int = 2 * DAY_MS
    hours_ms: int = 35 * DAY_MS
    days_ms: int = 800 * DAY_MS


@dataclass(frozen=True, slots=True)
class _Piece:
    """Entries or a rollup on their way into a larger one."""

    first: int
    last: int
    previous: str
    hash: str
    sum: Sum


def roll_up(connection: sqlite3.Connection, now: int, retention: Retention) -> bool:
    """Sum up what is old enough, inside the caller's transaction; whether anything was.

    Raises LedgerBroken before it changes anything that it can't vouch for.
    """
    _check_rollups(connection)
    policy = store.last_entry(connection, Kind.POLICY)
    before = sum(
        (
            _roll_entries(connection, now - retention.minutes_ms),
            _roll_level(connection, "hour", "day", DAY_MS, now - retention.hours_ms),
            _roll_level(connection, "day", "total", 0, now - retention.days_ms),
        )
    )
    if not before:
        return False
    store.forget_epochs(connection)
    if policy is not None and store.last_entry(connection, Kind.POLICY) is None:
        # The policy in force is always there in full, however old it is.
        again = canonical({"repeats": policy.sequence, **policy.fields()})
        store.append(connection, store.head(connection), now, Kind.POLICY, again)
    count, digest = rollups_digest(store.rollups(connection))
    content = canonical({"rollups": count, "sha256": digest})
    store.append(connection, store.head(connection), now, Kind.CHECKPOINT, content)
    return True


def parse_sum(row: Entry | Rollup) -> Sum:
    """The sum in a row. Raises LedgerBroken."""
    try:
        return Sum.parse(row.fields())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        number = row.sequence if isinstance(row, Entry) else row.first
        raise LedgerBroken(finding(number, f"a sum that can't be read: {error!r}", "what was written")) from error


def rollups_digest(rollups: Iterable[Rollup]) -> tuple[int, str]:
    """What a checkpoint attests: how many there are, and the SHA-256 of their digests, a line for each."""
    digest, count = sha256(), 0
    for one in rollups:
        digest.update(f"{one.digest}\n".encode())
        count += 1
    return count, digest.hexdigest()


def _check_rollups(connection: sqlite3.Connection) -> None:
    """What was summed before is what the newest checkpoint says."""
    for one in store.rollups(connection):
        if one.computed_digest() != one.digest:
            raise LedgerBroken(finding(one.first, "sums that were changed", f"those of digest {one.digest}"))
    count, digest = rollups_digest(store.rollups(connection))
    checkpoint = store.last_entry(connection, Kind.CHECKPOINT)
    if checkpoint is None and count == 0:
        return
    if checkpoint is None or checkpoint.fields() != {"rollups": count, "sha256": digest}:
        raise LedgerBroken(finding(checkpoint.sequence if checkpoint else 0, "other sums", "those attested"))


def _roll_entries(connection: sqlite3.Connection, before_ms: int) -> int:
    before_ms -= before_ms % HOUR_MS
    if not connection.execute("SELECT 1 FROM entry WHERE at_ms < ? LIMIT 1", (before_ms,)).fetchone():
        return 0
    pieces = list(_old_entries(connection, before_ms))
    made = 0
    for _, group in groupby(pieces, key=lambda piece: piece.sum.from_ms // HOUR_MS):
        _replace(connection, list(group), "hour")
        made += 1
    return made


def _old_entries(connection: sqlite3.Connection, before_ms: int) -> Iterator[_Piece]:
    """The oldest entries up to the first that is young, each checked against the one before it."""
    row = connection.execute("SELECT last, hash FROM rollup ORDER BY first DESC LIMIT 1").fetchone()
    previous = Head(*row) if row else Head(0, GENESIS)
    newest = store.head(connection).sequence
    for entry in store.entries(connection):
        if entry.at_ms >= before_ms or entry.sequence > newest - _KEPT_ENTRIES:
            return
        if broken := check_link(previous, entry):
            raise LedgerBroken(broken)
        previous = Head(entry.sequence, entry.hash)
        yield _Piece(entry.sequence, entry.sequence, entry.previous, entry.hash, _sum_of(entry))


def _sum_of(entry: Entry) -> Sum:
    if entry.kind == Kind.LEFT:
        return parse_sum(entry)
    made, fields = Sum(entry.at_ms, entry.at_ms), entry.fields()
    if entry.kind != Kind.CHECKPOINT and "repeats" not in fields:
        fields.pop("rules", None)
        made.events.append({"sequence": entry.sequence, "at_ms": entry.at_ms, "kind": entry.kind, **fields})
    return made


def _roll_level(connection: sqlite3.Connection, level: str, into: str, grain_ms: int, before_ms: int) -> int:
    """Rollups of a level, older than the time, into larger ones; `grain_ms` 0: all into the one there is."""
    before_ms -= before_ms % DAY_MS
    old = list(takewhile(lambda one: parse_sum(one).to_ms < before_ms, store.rollups(connection, level)))
    if not old:
        return 0
    if grain_ms == 0:
        _replace(connection, [_piece(one) for one in (*store.rollups(connection, into), *old)], into)
        return 1
    made = 0
    for _, group in groupby(map(_piece, old), key=lambda piece: piece.sum.from_ms // grain_ms):
        _replace(connection, list(group), into)
        made += 1
    return made


def _piece(rollup: Rollup) -> _Piece:
    return _Piece(rollup.first, rollup.last, rollup.previous, rollup.hash, parse_sum(rollup))


def _replace(connection: sqlite3.Connection, pieces: Sequence[_Piece], level: str) -> None:
    """One rollup in the place of neighbours."""
    first, last = pieces[0], pieces[-1]
    total = Sum(first.sum.from_ms, first.sum.to_ms)
    for before, piece in zip((None, *pieces), pieces, strict=False):
        if before is not None and before.last + 1 != piece.first:
            raise LedgerBroken(finding(piece.first, f"a gap after entry {before.last}", "its neighbour"))
        listed = store.series_digest(connection, piece.first, piece.last)
        if listed != (piece.sum.new, piece.sum.new_digest):
            raise LedgerBroken(finding(piece.first, "other new series", "those listed"))
        total.merge(piece.sum)
    if level == "total":
        for epochs in total.lanes.values():
            for lane in epochs.values():
                lane.ranges = []
    total.new, total.new_digest = store.series_digest(connection, first.first, last.last)
    content = canonical(total.render())
    made = Rollup(first.first, last.last, level, content, first.previous, last.hash, "")
    connection.execute("DELETE FROM entry WHERE sequence BETWEEN ? AND ?", (first.first, last.last))
    connection.execute("DELETE FROM rollup WHERE first BETWEEN ? AND ?", (first.first, last.last))
    connection.execute(
        "INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?)",
        (made.first, made.last, level, content, made.previous, made.hash, made.computed_digest()),
    )
