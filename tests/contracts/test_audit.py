"""The audit chain: run on SQLite and PostgreSQL."""

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import rfc8785
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from console.migrate import migrate
from kernel.audit import AuditEvent, AuditHead, AuditLog, audit_events
from kernel.clock import VirtualClock
from kernel.database import Database
from kernel.errors import InvalidInput


@pytest.fixture
def audit(database: Database) -> AuditLog:
    migrate(database)
    return AuditLog(database, VirtualClock())


def write(audit: AuditLog, subject: str) -> AuditEvent:
    return audit._database.transact(
        lambda connection: audit.append(connection, "finance@example", "invoice.final", subject, {"total": "9.00"})
    )


def execute(database: Database, *statements: str) -> None:
    database.transact(lambda connection: [connection.execute(sa.text(statement)) for statement in statements])


def disarm(database: Database) -> None:
    """As someone with the owner's password: past the triggers."""
    if database.is_sqlite:
        execute(database, "DROP TRIGGER audit_events_no_update", "DROP TRIGGER audit_events_no_delete")
    else:
        execute(database, "ALTER TABLE audit_events DISABLE TRIGGER ALL")


def test_rows_follow_one_another(audit: AuditLog) -> None:
    events = [write(audit, f"invoice-{number}") for number in range(5)]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert [event.previous_hash for event in events] == ["0" * 64, *(event.hash for event in events[:-1])]
    assert list(audit.events()) == events
    assert audit.head() == AuditHead(5, events[-1].hash)
    assert audit.verify() == audit.verify(AuditHead(3, events[2].hash)) == []


def test_many_rows_at_once_are_the_rows_one_by_one(audit: AuditLog, database: Database) -> None:
    first = write(audit, "before")
    subjects = [(f'invoice "{number}" \n für 示例', {"total": f"{number}.00"}) for number in range(3)]
    together = database.transact(lambda connection: audit.append_all(connection, "finance", "final", subjects))
    last = write(audit, "after")

    assert list(audit.events()) == [first, *together, last]
    assert [(event.sequence, event.subject) for event in together] == [
        (number, subject) for number, (subject, _) in enumerate(subjects, start=2)
    ]
    for event in together:
        unhashed = {name: value for name, value in asdict(event).items() if name != "hash"}
        assert event.hash == hashlib.sha256(rfc8785.dumps(unhashed)).hexdigest()
    assert database.transact(lambda connection: audit.append_all(connection, "finance", "final", [])) == []
    assert audit.verify() == []


def test_an_empty_log_is_whole(audit: AuditLog) -> None:
    assert audit.verify() == []
    assert str(audit.head()) == "0:" + "0" * 64


def test_an_append_falls_with_its_transaction(audit: AuditLog, database: Database) -> None:
    def fail(connection: sa.Connection) -> None:
        audit.append(connection, "a", "b", "c", {})
        raise LookupError

    with pytest.raises(LookupError):
        database.transact(fail)
    assert audit.head().sequence == 0
    write(audit, "next")
    assert audit.verify() == []


def test_concurrent_appends_make_one_chain(audit: AuditLog) -> None:
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: write(audit, f"s{number}"), range(24)))
    assert audit.head().sequence == 24
    assert audit.verify() == []


CHANGES = {
    "UPDATE audit_events SET actor = 'nobody' WHERE sequence = 3": 3,
    "UPDATE audit_events SET at_ms = at_ms + 1 WHERE sequence = 3": 3,
    "UPDATE audit_events SET details = '{}' WHERE sequence = 3": 3,
    "UPDATE audit_events SET hash = previous_hash WHERE sequence = 3": 3,
    "UPDATE audit_events SET previous_hash = hash WHERE sequence = 3": 3,
    "DELETE FROM audit_events WHERE sequence = 2": 2,
    "DELETE FROM audit_events WHERE sequence = 1": 1,
    "DELETE FROM audit_events WHERE sequence >= 4": 4,
}


def test_the_first_broken_row_is_named(audit: AuditLog, database: Database) -> None:
    written = [asdict(write(audit, f"invoice-{number}")) for number in range(5)]
    disarm(database)
    for change, row in CHANGES.items():
        execute(database, change)
        assert audit.verify()[0].where == f"row {row}", change
        execute(database, "DELETE FROM audit_events")
        database.transact(lambda connection: connection.execute(sa.insert(audit_events), written))
        assert audit.verify() == []


def test_a_chain_made_anew_does_not_hold_the_head_that_was_kept(audit: AuditLog, database: Database) -> None:
    for number in range(4):
        write(audit, f"invoice-{number}")
    kept = audit.head()
    genesis = f"UPDATE audit_head SET sequence = 0, hash = '{'0' * 64}'"
    disarm(database)
    execute(database, "DELETE FROM audit_events", genesis)
    assert audit.verify() == []  # whole by itself
    assert [finding.where for finding in audit.verify(kept)] == ["row 1"]
    for number in range(6):
        write(audit, f"another-{number}")
    assert audit.verify() == []
    assert [finding.where for finding in audit.verify(kept)] == ["row 4"]


def test_the_database_itself_refuses_a_change(audit: AuditLog, database: Database) -> None:
    write(audit, "invoice-1")
    for statement in ("UPDATE audit_events SET actor = 'x'", "DELETE FROM audit_events", "DELETE FROM audit_head"):
        with pytest.raises(DBAPIError, match="append-only"):
            execute(database, statement)
    if not database.is_sqlite:
        with pytest.raises(DBAPIError, match="append-only"):
            execute(database, "TRUNCATE audit_events")
    assert audit.verify() == []


def test_export_is_json_lines(audit: AuditLog) -> None:
    events = [write(audit, "用量"), write(audit, "b")]
    file = io.StringIO()
    assert audit.export(file) == 2
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["hash"] for row in rows] == [event.hash for event in events]
    assert rows[0]["details"] == {"total": "9.00"}


def test_details_that_are_no_plain_json_are_refused(audit: AuditLog, database: Database) -> None:
    refused: list[dict[Any, object]] = [
        {"n": 2**60},
        {"n": float("nan")},
        {"b": b"x"},
        {"long": "x" * 70_000},
        {1: "key"},
    ]
    for details in refused:
        with pytest.raises(InvalidInput):
            database.transact(partial(append_details, audit, details))
    assert audit.head().sequence == 0


def append_details(audit: AuditLog, details: dict[Any, object], connection: sa.Connection) -> None:
    audit.append(connection, "a", "b", "c", details)


def test_a_head_is_read_as_it_prints() -> None:
    digest = "ab" * 32
    assert AuditHead.parse(f"12:{digest}") == AuditHead(12, digest)
    assert str(AuditHead(12, digest)) == f"12:{digest}"
    for text in ("", "12", f"x:{digest}", f"12:{digest.upper()}", "12:ab", f"-1:{digest}", f"{'1' * 30}:{digest}"):
        with pytest.raises(InvalidInput):
            AuditHead.parse(text)


def test_pages_join(audit: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.audit._PAGE", 2)
    written = [write(audit, f"s{number}") for number in range(5)]
    assert list(audit.events()) == written
