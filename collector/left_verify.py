"""Whether the ledger of what left is what was written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from collector import left_store as store
from collector.left_chain import GENESIS, Entry, Head, Kind, LedgerBroken, Rollup, check_link, finding
from collector.left_rollup import parse_sum, rollups_digest
from kernel.errors import Finding


@dataclass(slots=True)
class Verdict:
    """What `verify` found. `head`: the last entry that takes no more, to keep elsewhere; `open`: one after it."""

    head: Head
    entries: int = 0
    rolled_up: int = 0
    open: bool = False
    findings: list[Finding] = field(default_factory=list)


def verify(connection: sqlite3.Connection, kept: Head | None = None) -> Verdict:
    """Check sums, links, hashes and listed series, first broken place first. `kept`: a head seen earlier.

    An end that was cut off shows only against a kept head. Blocking; reads one state of the file.
    """
    connection.execute("BEGIN")
    try:
        return _Walk(connection, kept).run()
    finally:
        connection.execute("ROLLBACK")


class _Walk:
    def __init__(self, connection: sqlite3.Connection, kept: Head | None) -> None:
        self._connection = connection
        self._kept = kept
        self._last = Head(0, GENESIS)
        self._verdict = Verdict(self._last)

    def run(self) -> Verdict:
        verdict = self._verdict
        try:
            for broken in self._findings():
                verdict.findings.append(broken)
        except (LedgerBroken, ValueError, TypeError) as error:
            place = error.finding if isinstance(error, LedgerBroken) else None
            verdict.findings.append(place or finding(self._last.sequence + 1, repr(error), "what was written"))
        return verdict

    def _findings(self) -> Iterator[Finding]:
        for rollup in store.rollups(self._connection):
            if broken := self._check_rollup(rollup):
                yield broken
                return
        for entry in store.entries(self._connection):
            if broken := self._check_entry(entry):
                yield broken
                return
        if broken := self._check_attested():
            yield broken
        if self._kept is not None and self._kept.sequence > self._last.sequence:
            yield finding(
                self._last.sequence + 1, "the end", f"entries to the head {self._kept}; they were removed"
            )

    def _check_rollup(self, one: Rollup) -> Finding | None:
        if one.first != self._last.sequence + 1 or one.previous != self._last.hash or one.last < one.first:
            return finding(
                one.first, f"sums of entries {one.first} to {one.last}", "those that follow the ones before"
            )
        if one.computed_digest() != one.digest:
            return finding(one.first, "sums that were changed", f"those of digest {one.digest}")
        total = parse_sum(one)
        if store.series_digest(self._connection, one.first, one.last) != (total.new, total.new_digest):
            return finding(one.first, "other series listed than were", f"{total.new} series as written")
        self._last = Head(one.last, one.hash)
        self._verdict.rolled_up += one.last - one.first + 1
        self._verdict.head = self._last
        kept = self._kept
        if kept is not None and one.first <= kept.sequence < one.last:
            return finding(
                kept.sequence, "rolled up meanwhile", "a head of an entry that is still there, or of an hour's end"
            )
        return self._check_kept()

    def _check_entry(self, entry: Entry) -> Finding | None:
        if broken := check_link(self._last, entry):
            return broken
        if entry.content != _canonical_again(entry):
            return finding(entry.sequence, "content that is not canonical", "what was written")
        if entry.kind == Kind.LEFT:
            found = parse_sum(entry)
            listed = store.series_digest(self._connection, entry.sequence, entry.sequence)
            if listed != (found.new, found.new_digest):
                return finding(entry.sequence, "other series listed than were", f"{found.new} series as written")
        self._verdict.open = entry.kind == Kind.LEFT
        if self._verdict.open:
            self._verdict.head = self._last  # the one before can't change any more
        self._last = Head(entry.sequence, entry.hash)
        if not self._verdict.open:
            self._verdict.head = self._last
        self._verdict.entries += 1
        return self._check_kept()

    def _check_kept(self) -> Finding | None:
        kept = self._kept
        if kept is not None and kept.sequence == self._last.sequence and kept.hash != self._last.hash:
            return finding(kept.sequence, f"hash {self._last.hash}", f"that of the head given, {kept.hash}")
        return None

    def _check_attested(self) -> Finding | None:
        count, digest = rollups_digest(store.rollups(self._connection))
        checkpoint = store.last_entry(self._connection, Kind.CHECKPOINT)
        if checkpoint is None and count:
            return finding(self._last.sequence, f"{count} sums", "a checkpoint that attests them")
        if checkpoint is not None and checkpoint.fields() != {"rollups": count, "sha256": digest}:
            return finding(
                checkpoint.sequence, f"{count} sums of digest {digest}", f"those attested: {checkpoint.content}"
            )
        return self._check_strays()

    def _check_strays(self) -> Finding | None:
        """Series of no entry at all."""
        row = self._connection.execute(
            "SELECT labels FROM series WHERE entry > ?1 OR entry < 1 LIMIT 1", (self._last.sequence,)
        ).fetchone()
        return (
            finding(self._last.sequence, "a series that no entry listed", "those that were written")
            if row
            else None
        )


def _canonical_again(entry: Entry) -> str:
    return json.dumps(json.loads(entry.content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
