"""The audit log: who did what to what, append-only, each row holding the hash of the row before it.

A changed or removed row breaks the chain at that row. Whoever can rewrite the whole table can make a new chain, so
the head (`sequence:hash`) is worth keeping elsewhere: `verify` checks that a head once seen is still in the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import sqlalchemy as sa

from kernel.clock import Clock
from kernel.database import Database, metadata
from kernel.errors import Finding, InvalidInput, Stop

GENESIS_HASH = "0" * 64
MAX_DETAILS_BYTES = 64 * 1024
_PAGE = 2000
_SOURCE = "audit log"
# For texts, integers below 2^53 and ASCII names it writes what RFC 8785 asks for; a test compares them.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
# One row: appends queue for its lock, and a tail that was cut off shows.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)


class AuditBroken(Stop):
    """The audit log is not what was written. Keep the database as it is and find out who changed it."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The last row: what to keep elsewhere. Rendered `sequence:hash`."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> AuditHead:
        """The inverse of `str`. Raises InvalidInput."""
        sequence, _, digest = text.partition(":")
        digits = sequence.isascii() and sequence.isdecimal() and len(sequence) <= 18
        if not digits or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise InvalidInput.single("head", "value", repr(text), "sequence:hash as `byoc audit verify` prints it")
        return cls(int(sequence), digest)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One row. `details` is canonical JSON (RFC 8785); `hash` covers everything else, the row before included."""

    sequence: int
    at_ms: int
    actor: str
    action: str
    subject: str
    details: str
    previous_hash: str
    hash: str

    @property
    def fields(self) -> dict[str, Any]:
        """The row, by column."""
        return {name: getattr(self, name) for name in self.__slots__}

    def computed_hash(self) -> str:
        """SHA-256 of the canonical JSON of all other fields: texts and integers below 2^53."""
        content = self.fields
        del content["hash"]
        return hashlib.sha256(_ENCODER.encode(content).encode()).hexdigest()


class AuditLog:
    """Appends inside the caller's transaction, verifies, exports."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def append(
        self, connection: sa.Connection, actor: str, action: str, subject: str, details: Mapping[str, Any]
    ) -> AuditEvent:
        """Add a row that stands or falls with the caller's transaction.

        From here to its end other appends wait, so call this last. `details` are JSON values without secrets, at
        most 64 KiB; numbers that must be exact are strings. Raises InvalidInput.
        """
        [event] = self.append_all(connection, actor, action, [(subject, details)])
        return event

    def append_all(
        self,
        connection: sa.Connection,
        actor: str,
        action: str,
        subjects: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> list[AuditEvent]:
        """`append` for many subjects with their details, in their order: the same rows, in a tenth of the time."""
        texts = [(subject, _canonical_details(details)) for subject, details in subjects]
        if not texts:
            return []
        last, at_ms = self._lock_head(connection), self._clock.now_ms()
        events: list[AuditEvent] = []
        for subject, text in texts:
            unhashed = AuditEvent(last.sequence + 1, at_ms, actor, action, subject, text, last.hash, "")
            events.append(replace(unhashed, hash=unhashed.computed_hash()))
            last = AuditHead(events[-1].sequence, events[-1].hash)
        connection.execute(sa.insert(audit_events), [event.fields for event in events])
        connection.execute(sa.update(audit_head).values(sequence=last.sequence, hash=last.hash))
        return events

    def head(self) -> AuditHead:
        """The last row's number and hash; 0 and zeros when there is none."""
        return self._database.transact(_load_head)

    def verify(self, kept: AuditHead | None = None) -> list[Finding]:
        """What is wrong with the chain, the first broken row first; empty when it is whole. Blocking.

        `kept` is a head seen earlier, which must still be in the chain.
        """
        heads = {"stored": self.head()}  # before the walk: rows appended meanwhile only come after it
        if kept:
            heads["given"] = kept
        last = AuditHead(0, GENESIS_HASH)
        findings: list[Finding] = []
        for event in self.events():
            if broken := _check_link(last, event):
                return [broken]
            last = AuditHead(event.sequence, event.hash)
            findings += [
                _finding(event.sequence, event.hash, f"the {name} head's {head.hash}")
                for name, head in heads.items()
                if head.sequence == event.sequence and head.hash != event.hash
            ]
        return findings + [
            _finding(last.sequence + 1, "the end of the log", f"rows to the {name} head {head}; they were removed")
            for name, head in heads.items()
            if head.sequence > last.sequence
        ]

    def events(self) -> Iterator[AuditEvent]:
        """Every row in order, read in pages so that no lock is held for long. Blocking."""
        after = 0
        while True:
            page = self._database.transact(partial(_load_page, after=after))
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].sequence

    def export(self, file: IO[str]) -> int:
        """Write every row as a line of JSON; the number of rows. Blocking."""
        count = 0
        for event in self.events():
            row = event.fields | {"details": json.loads(event.details)}
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
            count += 1
        return count

    def _lock_head(self, connection: sa.Connection) -> AuditHead:
        # SQLite has locked the whole database since BEGIN IMMEDIATE and ignores FOR UPDATE.
        return _load_head(connection, lock=True)


def _load_head(connection: sa.Connection, *, lock: bool = False) -> AuditHead:
    query = sa.select(audit_head.c.sequence, audit_head.c.hash)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise AuditBroken([Finding(_SOURCE, "head", "no row", "the row that the migration made")])
    return AuditHead(row.sequence, row.hash)


def _load_page(connection: sa.Connection, after: int) -> list[AuditEvent]:
    query = sa.select(audit_events).where(audit_events.c.sequence > after)
    rows = connection.execute(query.order_by(audit_events.c.sequence).limit(_PAGE)).mappings()
    return [AuditEvent(**row) for row in rows]


def _check_link(last: AuditHead, event: AuditEvent) -> Finding | None:
    if event.sequence != last.sequence + 1:
        return _finding(last.sequence + 1, f"row {event.sequence} in its place", "this row; it was removed")
    if event.previous_hash != last.hash:
        return _finding(event.sequence, f"previous hash {event.previous_hash}", f"{last.hash}, the row before it")
    if event.computed_hash() != event.hash:
        return _finding(event.sequence, f"content of hash {event.computed_hash()}", f"{event.hash}; it was changed")
    return None


def _finding(sequence: int, found: str, allowed: str) -> Finding:
    return Finding(_SOURCE, f"row {sequence}", found, allowed)


def _canonical_details(details: Mapping[str, Any]) -> str:
    try:
        text = _canonical(dict(details)).decode()
    except ValueError as error:  # rfc8785's errors are ValueErrors
        allowed = "JSON values; exact numbers as strings"
        raise InvalidInput.single(_SOURCE, "details", error, allowed) from error
    if len(text.encode()) > MAX_DETAILS_BYTES:
        raise InvalidInput.single(_SOURCE, "details", f"{len(text)} characters", f"{MAX_DETAILS_BYTES} bytes")
    return text


def _canonical(content: Mapping[str, Any]) -> bytes:
    import rfc8785

    encoded: bytes = rfc8785.dumps(content)
    return encoded
