"""The ledger: each frame once, every change of the file shows, and it stays bounded while all sums stay right."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from collector.cli import app
from collector.labels import make_labels
from collector.left import LeftLedger
from collector.left_chain import Head
from collector.left_meta import FrameMeta, listed
from collector.left_read import LeftReader, Period
from collector.left_rollup import DAY_MS, HOUR_MS
from collector.left_sums import Ranges, add_range, bound, has
from collector.left_verify import Verdict
from collector.metrics import CollectorMetrics
from collector.policy_changes import PolicyChange
from collector.policy_settings import PolicyDocument, PolicySettings
from collector.settings import load_collector_settings
from collector.shipping import Shipping
from collector.spool.frame import Frame
from collector.spool.gaps import Gap, GapReason
from collector.wire.headers import PushLane
from collector.wire.receipt import PushName, Refusal, Signed, render_refusal
from kernel.clock import VirtualClock
from kernel.errors import InvalidInput
from tests.collector.world import write_config

CHANGE = PolicyChange("policy.yaml", "unsigned", "ab" * 32, 1, "cd" * 8, PolicySettings(), ("drop: +x",))


def frame(
    sequence: int, *new: str, lane: PushLane = PushLane.BILLING, epoch: int = 7, family: str = "m_a"
) -> Frame:
    """One of 3 samples, 30 bytes before compression and 5 after."""
    names = [listed(family, make_labels({"__name__": family, "n": name})) for name in new]
    return Frame(epoch, sequence, lane, None, 3, FrameMeta({family: (3, 30)}, names).render(), b"x" * 5)


@dataclass
class Book:
    path: Path
    clock: VirtualClock
    ledger: LeftLedger

    def reopened(self) -> LeftLedger:
        self.ledger.close()
        self.ledger = LeftLedger(self.path, self.clock, 1000)
        return self.ledger

    def verdict(self, kept: str | None = None) -> Verdict:
        reader = LeftReader(self.path)
        try:
            return reader.verify(Head.parse(kept) if kept else None)
        finally:
            reader.close()

    def alter(self, statement: str, *values: object) -> None:
        """As somebody with the file in the hand would."""
        connection = sqlite3.connect(self.path)
        with connection:
            assert connection.execute(statement, values).rowcount > 0
        connection.close()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    clock = VirtualClock()
    made = Book(tmp_path / "left.sqlite", clock, LeftLedger(tmp_path / "left.sqlite", clock, 1000))
    yield made
    made.ledger.close()


def filled(book: Book, minutes: int) -> None:
    """A frame a minute with a series of its own, and a change of policy first."""
    book.ledger.policy_changed(CHANGE)
    for minute in range(1, minutes + 1):
        book.clock.step_wall(60)
        book.ledger.count([frame(minute, f"s{minute}", family=f"m_{minute % 3}")])


def samples(book: Book) -> int:
    return sum(family.samples for family in book.ledger.families())


def test_a_frame_is_counted_once_however_often_it_comes(book: Book) -> None:
    book.ledger.count([frame(1), frame(2)])
    book.ledger.count([frame(2), frame(4)])
    book.reopened().count([frame(1), frame(3), frame(4)])  # 3 was beside the backlog: out of order
    book.ledger.count([frame(3), frame(1, lane=PushLane.HISTORY), frame(1, epoch=8)])
    assert samples(book) == 6 * 3
    reader = LeftReader(book.path)
    lanes = [(one.lane, one.epoch, one.frames, one.ranges) for one in reader.lanes()]
    assert lanes == [("billing", 7, 4, ((1, 4),)), ("billing", 8, 1, ((1, 1),)), ("history", 7, 1, ((1, 1),))]
    reader.close()
    assert book.verdict().findings == []


def test_two_processes_take_turns(book: Book) -> None:
    other = LeftLedger(book.path, book.clock, 1000)
    for sequence in range(1, 20):
        (book.ledger, other)[sequence % 2].count([frame(sequence), frame(sequence + 1)])
    other.close()
    assert samples(book) == 20 * 3
    assert book.verdict().findings == []


def test_an_entry_takes_a_minute_and_a_failed_one_nothing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    for sequence in range(1, 11):
        book.ledger.count([frame(sequence, "a", str(sequence))])
    assert book.ledger.head().sequence == 1
    with monkeypatch.context() as patch:
        patch.setattr("collector.left_store.rewrite", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError()))
        with pytest.raises(sqlite3.OperationalError):
            book.ledger.count([frame(11, "lost")])
    book.ledger.count([frame(11, "found")])
    book.clock.step_wall(60)
    book.ledger.count([frame(12)])
    assert samples(book) == 12 * 3
    assert book.verdict().findings == []
    assert book.ledger.head().sequence == 3


ALTERATIONS = {
    "a count": ("UPDATE entry SET content = replace(content, '[3,30]', '[2,30]') WHERE sequence = 4",),
    "a count and its hash": (("UPDATE entry SET content = replace(content, '[3,30]', '[2,30]'), hash = ? "
                             "WHERE sequence = 4"), "0" * 64),
    "a time": ("UPDATE entry SET at_ms = at_ms + 1 WHERE sequence = 4",),
    "an entry removed": ("DELETE FROM entry WHERE sequence = 4",),
    "the first removed": ("DELETE FROM entry WHERE sequence = 1",),
    "two exchanged": (("UPDATE entry SET sequence = CASE sequence WHEN 4 THEN -5 ELSE -4 END "
                      "WHERE sequence IN (4, 5)"),),
    "a policy": ("UPDATE entry SET content = replace(content, '+x', '+y') WHERE kind = 'policy'",),
    "a series removed": ("DELETE FROM series WHERE labels LIKE '%s3\"%'",),
    "a series renamed": ("UPDATE series SET labels = 'm_0{n=\"other\"}' WHERE labels LIKE '%s3\"%'",),
    "a series added": ("INSERT INTO series (family, labels, first_ms, entry) VALUES ('m', 'm', 1, 4)",),
    "a series of no entry": ("INSERT INTO series (family, labels, first_ms, entry) VALUES ('m', 'm', 1, 99)",),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERATIONS)
def test_every_alteration_shows(book: Book, name: str) -> None:
    filled(book, 8)
    assert book.verdict().findings == []
    if name == "two exchanged":
        book.alter(*ALTERATIONS[name])
        book.alter("UPDATE entry SET sequence = -sequence WHERE sequence < 0")
    else:
        book.alter(*ALTERATIONS[name])
    assert len(book.verdict().findings) == 1


def test_a_cut_end_shows_against_a_head_that_was_kept(book: Book) -> None:
    filled(book, 5)
    kept = str(book.verdict().head)
    filled(book, 8)
    assert book.verdict(kept).findings == []
    book.alter("DELETE FROM entry WHERE sequence > 3")
    book.alter("DELETE FROM series WHERE entry > 3")
    assert book.verdict().findings == []  # nothing in the file can tell
    assert "they were removed" in str(book.verdict(kept).findings[0])


def test_a_new_chain_shows_against_a_head_that_was_kept(book: Book, tmp_path: Path) -> None:
    filled(book, 5)
    kept = str(book.verdict().head)
    forged = LeftLedger(tmp_path / "forged.sqlite", VirtualClock(), 1000)
    other = Book(tmp_path / "forged.sqlite", VirtualClock(), forged)
    filled(other, 9)
    forged.close()
    assert other.verdict().findings == []
    assert book.verdict(kept).findings == []
    other_kept = Head(Head.parse(kept).sequence, "1" * 64)
    assert len(other.verdict(str(other_kept)).findings) == 1


def test_the_head_is_never_one_that_still_changes(book: Book) -> None:
    filled(book, 3)
    verdict = book.verdict()
    assert (verdict.open, verdict.head.sequence) == (True, 3)
    book.ledger.count([frame(4, family="m_0")])
    assert book.verdict(str(verdict.head)).findings == []
    with pytest.raises(InvalidInput, match="sequence:hash"):
        Head.parse("3:xyz")


def days(book: Book, number: int) -> int:
    """Six frames a day over days, at three hours; returns how many there are."""
    sequence = 0
    for day in range(number):
        for hour in (0, 0, 5, 5, 23, 23):
            sequence += 1
            at = day * DAY_MS + hour * HOUR_MS + (sequence % 2) * 120_000
            book.clock.step_wall((at + 1_767_225_600_000 - book.clock.now_ms()) / 1000)
            book.ledger.count([frame(sequence, f"s{sequence}", family=f"m_{sequence % 4}")])
    return sequence


def test_what_is_old_is_rolled_up_and_still_proved(book: Book) -> None:
    book.ledger.policy_changed(CHANGE)
    book.ledger.gap(PushLane.BILLING, {"reason": "quota", "first": 3, "last": 9, "samples": 21, "detail": None})
    frames = days(book, 40)
    verdict = book.verdict()
    assert verdict.findings == []
    assert verdict.rolled_up > verdict.entries
    assert samples(book) == frames * 3
    reader = LeftReader(book.path)
    levels = dict(reader._connection.execute("SELECT level, count(*) FROM rollup GROUP BY level").fetchall())
    assert (levels["hour"], levels["day"]) == (33 * 3 + 2, 4)
    assert [event["kind"] for event in reader.events()] == ["policy", "gap"]
    assert sum(one.samples for one in reader.periods("day")) == frames * 3
    assert len({one.start_ms for one in reader.periods("day")}) == 40
    last = Period(book.clock.now_ms() - 10 * HOUR_MS)
    assert (reader.totals(last).frames, len(reader.series(period=last))) == (2, 2)
    assert (reader.totals().frames, reader.totals().listed) == (frames, frames)
    reader.close()
    policy = book.ledger.last_policy()
    assert policy is not None
    assert policy.rules == PolicyDocument()


def test_after_years_only_a_total_is_left_of_the_oldest(book: Book) -> None:
    days(book, 3)
    book.clock.step_wall(900 * 86_400)
    for sequence in range(101, 110):
        book.clock.step_wall(2 * 86_400)
        book.ledger.count([frame(sequence)])
    assert samples(book) == 27 * 3
    assert book.verdict().findings == []
    connection = sqlite3.connect(book.path)
    assert ("total",) in connection.execute("SELECT DISTINCT level FROM rollup").fetchall()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rollup SET content = replace(content, '[3,30]', '[1,30]') WHERE first < 3",
        "UPDATE rollup SET digest = hash WHERE first = (SELECT min(first) FROM rollup)",
        "DELETE FROM rollup WHERE first = (SELECT min(first) FROM rollup)",
        "DELETE FROM rollup WHERE first = (SELECT max(first) FROM rollup)",
        "DELETE FROM rollup",
        "DELETE FROM entry WHERE kind = 'checkpoint'",
        "DELETE FROM series WHERE labels LIKE '%s1\"%'",
    ],
)
def test_an_altered_sum_shows_and_nothing_is_summed_over_it(book: Book, statement: str) -> None:
    days(book, 5)
    book.alter(statement)
    assert len(book.verdict().findings) == 1
    counted = samples(book)
    book.clock.step_wall(40 * 86_400)
    book.ledger.count([frame(1000)])  # counting goes on
    assert samples(book) == counted + 3
    assert book.verdict().findings


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 4)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_ranges_hold_what_was_added(spans: list[tuple[int, int]]) -> None:
    ranges: Ranges = []
    added = set()
    for first, length in spans:
        add_range(ranges, first, first + length)
        added |= set(range(first, first + length + 1))
    assert {one for one in range(1, 60) if has(ranges, one)} == added
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(ranges))
    bound(ranges, 2)
    assert len(ranges) <= 2
    assert all(has(ranges, one) for one in added)


def test_the_command_verifies_and_asks_by_time(tmp_path: Path) -> None:
    config = write_config(tmp_path, "https://g.example")
    (tmp_path / "spool").mkdir()
    book = Book(tmp_path / "spool" / "left.sqlite", VirtualClock(), LeftLedger(Path(), VirtualClock(), 1))
    filled_ledger = book.reopened()
    filled(book, 4)
    filled_ledger.close()
    run = CliRunner()
    good = run.invoke(app, ["left", "-c", str(config), "--verify"])
    assert (good.exit_code, "good: 5 entries" in good.output) == (0, True)
    kept = good.output.split("head ")[1].strip()
    day = run.invoke(app, ["left", "-c", str(config), "--by", "day", "--since", "2026-01-01", "--family", "m_1"])
    assert "2026-01-01T00:00:00+00:00\tm_1\t6\t60" in day.output
    late = run.invoke(app, ["left", "-c", str(config), "--since", "2026-01-02"])
    assert "0 samples in 0 frames" in late.output
    changes = run.invoke(app, ["left", "-c", str(config), "--changes"])
    assert "policy\tpolicy.yaml version 1" in changes.output
    book.alter("DELETE FROM entry WHERE sequence > 2")
    bad = run.invoke(app, ["left", "-c", str(config), "--verify", "--head", kept])
    assert bad.exit_code == 1
    refused = run.invoke(app, ["left", "-c", str(config), "--since", "yesterday"])
    assert isinstance(refused.exception, InvalidInput)


def test_a_gap_of_the_spool_is_listed(tmp_path: Path) -> None:
    settings = load_collector_settings(write_config(tmp_path, "https://g.example"))
    shipping = Shipping(settings, PushLane.BULK, VirtualClock(), CollectorMetrics())
    shipping.folder.mkdir(parents=True)
    shipping.spool.gaps.record(Gap(GapReason.QUOTA, 5, 7, 1, 3, 30, "the oldest"))
    shipping.ledger.close()
    reader = LeftReader(shipping.ledger.path)
    (event,) = reader.events()
    assert [event[name] for name in ("lane", "reason", "first", "last", "samples")] == ["bulk", "quota", 1, 3, 30]
    reader.close()


NAME = PushName("acme", "prod", "col-1", "bulk", 7, 3, 0)


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (
            {"reason": "quota", "epoch": 7, "first": 3, "last": 9, "samples": 21, "detail": "the oldest"},
            "bulk epoch 7, numbers 3 to 9: quota: the oldest",
        ),
        (
            {"reason": "damage", "epoch": 7, "first": 3, "last": None, "samples": None, "detail": ""},
            "bulk epoch 7, numbers 3 to the end: damage",
        ),
        ({"reason": "disk", "epoch": 7, "first": None, "last": None}, "bulk epoch 7, no numbers: disk"),
        (
            {
                "reason": "refused",
                "epoch": 7,
                "first": 3,
                "last": 3,
                "detail": render_refusal(Signed(Refusal(NAME, "no date", 5), "k", bytes(64))),
            },
            "bulk epoch 7, numbers 3 to 3: refused: no date",
        ),
    ],
)
def test_a_gap_is_told_in_words(tmp_path: Path, gap: dict[str, int | str | None], said: str) -> None:
    config = write_config(tmp_path, "https://g.example")
    (tmp_path / "spool").mkdir()
    ledger = LeftLedger(tmp_path / "spool" / "left.sqlite", VirtualClock(), 1)
    ledger.open()
    ledger.gap(PushLane.BULK, gap)
    ledger.close()
    done = CliRunner().invoke(app, ["left", "-c", str(config), "--changes"])
    assert done.output.splitlines()[1].endswith(f"\tgap\t{said}")
