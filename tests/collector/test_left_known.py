"""Each series is listed once: across frames, processes and restarts, and in a ledger that had an index by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import left_known
from collector.left import LeftLedger
from collector.left_meta import FrameMeta
from collector.left_read import LeftReader
from collector.spool.frame import Frame
from collector.wire.headers import PushLane
from kernel.clock import VirtualClock

MOST = 1000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LeftLedger]:
    made = LeftLedger(tmp_path / "left.sqlite", VirtualClock(), MOST)
    yield made
    made.close()


def frame(sequence: int, numbers: range, family: str = "m") -> Frame:
    names = [(family, f'm{{n="{number:04}"}}') for number in numbers]
    return Frame(7, sequence, PushLane.BILLING, None, 3, FrameMeta({family: (3, 30)}, names).render(), b"x")


def listed(path: Path) -> tuple[list[str], int]:
    """The series, and how many are only counted; the chain holds."""
    reader = LeftReader(path)
    try:
        assert reader.verify().findings == []
        totals = reader.totals()
        names = [name for name, _ in reader.series(limit=10_000)]
        assert totals.listed == len(names)
        return names, totals.unlisted
    finally:
        reader.close()


def names(numbers: range) -> list[str]:
    return [f'm{{n="{number:04}"}}' for number in numbers]


@pytest.mark.parametrize("most_recent", [1, 7, 10_000])
def test_once_across_frames_processes_and_restarts(
    ledger: LeftLedger, monkeypatch: pytest.MonkeyPatch, most_recent: int
) -> None:
    monkeypatch.setattr(left_known, "_MOST_RECENT", most_recent)
    other = LeftLedger(ledger.path, VirtualClock(), MOST)
    ledger.count([frame(1, range(100)), frame(2, range(50, 150))])
    other.count([frame(3, range(140, 200))])
    ledger.count([frame(4, range(100, 210))])
    other.close()
    ledger.close()
    ledger.count([frame(5, range(220))])
    assert listed(ledger.path) == (names(range(220)), 0)
    ledger.count([frame(6, range(3), family="other")])
    assert len(listed(ledger.path)[0]) == 223


def test_over_the_bound_they_are_counted(ledger: LeftLedger) -> None:
    ledger.count([frame(1, range(990))])
    ledger.count([frame(2, range(980, 1010))])  # ten are known, ten have room
    ledger.count([frame(3, range(5))])  # nobody looks any more
    assert listed(ledger.path) == (names(range(1000)), 10 + 5)


def test_what_failed_is_listed_the_next_time(ledger: LeftLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.count([frame(1, range(10))])
    with monkeypatch.context() as patch:
        patch.setattr("collector.left_store.rewrite", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError()))
        with pytest.raises(sqlite3.OperationalError):
            ledger.count([frame(2, range(20))])
    ledger.count([frame(2, range(20))])
    assert listed(ledger.path) == (names(range(20)), 0)


def test_an_index_by_name_of_before_is_dropped_and_nothing_else(ledger: LeftLedger) -> None:
    ledger.count([frame(1, range(30))])
    ledger.close()
    connection = sqlite3.connect(ledger.path)
    connection.executescript("""
        ALTER TABLE series RENAME TO plain;
        DROP INDEX series_entry;
        CREATE TABLE series (
            number INTEGER PRIMARY KEY, family TEXT NOT NULL, labels TEXT NOT NULL, first_ms INTEGER NOT NULL,
            entry INTEGER NOT NULL, UNIQUE (family, labels));
        INSERT INTO series SELECT * FROM plain;
        DROP TABLE plain;
        CREATE INDEX series_entry ON series (entry);
    """)
    connection.close()
    assert listed(ledger.path) == (names(range(30)), 0)  # a reader takes it as it is
    ledger.count([frame(2, range(20, 40))])
    assert listed(ledger.path) == (names(range(40)), 0)
    connection = sqlite3.connect(ledger.path)
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'series'")}
    connection.close()
    assert found == {"series", "series_entry"}
