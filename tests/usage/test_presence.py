"""Hand-worked stretches of one gauge: held, missing, absent. Times in seconds, limit 300 s, one hour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from metering.usage.array_hours import HourTable, Views, hour_table
from metering.usage.levels import ENDED, NOTHING, levels_of
from metering.usage.stretches import segments_of

LIMIT_MS = 300_000
HOUR_MS = 3_600_000
GONE = "gone"  # a stale marker of a scrape that succeeded
FAILED = "failed"  # a stale marker of a scrape that failed
Samples = tuple[tuple[int, float | str], ...]


def hour_of(*series: Samples, open_before: bool = False) -> HourTable:
    """The hour of one component, whose series these are."""
    rows = [(number, at * 1000, _level(value)) for number, samples in enumerate(series) for at, value in samples]
    series_of, times, levels = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    nothing = np.zeros(1, np.int64)
    return hour_table(
        segments_of(series_of, times, levels, LIMIT_MS),
        Views(np.zeros(len(series), np.int64), nothing, 1),
        np.array([0, HOUR_MS], np.int64),
        LIMIT_MS,
        np.array([open_before]),
    )


def _level(value: float | str) -> int:
    if isinstance(value, str):
        return ENDED if value == GONE else NOTHING
    return int(levels_of(np.array([value]), 1000)[0])


def points(table: HourTable) -> list[tuple[int, int, int]]:
    """Start and end in seconds, and level."""
    pieces = table.pieces
    columns = (pieces.starts // 1000, pieces.ends // 1000, pieces.levels)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@dataclass(frozen=True)
class Ledger:
    """Samples, and what the hour says: vCPU-seconds, observed and missing seconds, peak vCPU, open at its end."""

    story: str
    samples: Samples
    vcpu_seconds: float
    observed: int
    missing: int
    peak: float
    open_at_end: bool
    open_before: bool = False


LEDGERS = [
    Ledger("0 s: 4 vCPU; 200 s: 8 vCPU, each holds to the next", ((0, 4.0), (200, 8.0), (400, GONE)),
           4 * 200 + 8 * 200, 400, 0, 8, open_at_end=False),
    Ledger("a sample alone holds 300 s, then the time is missing to the end", ((0, 4.0),),
           4 * 300, 300, 3300, 4, open_at_end=True),
    Ledger("the series ended at 100 s in a good scrape: absent, not missing", ((0, 4.0), (100, GONE)),
           400, 100, 0, 4, open_at_end=False),
    Ledger("the scrape failed at 100 s: missing from there", ((0, 4.0), (100, FAILED)),
           400, 100, 3500, 4, open_at_end=True),
    Ledger("failed at 100 s, back at 160 s, ended at 200 s: 60 s are missing", ((0, 4.0), (100, FAILED), (160, 4.0),
           (200, GONE)), 560, 140, 60, 4, open_at_end=False),
    Ledger("silent past the limit, the end seen at 500 s: missing 300 to 500 s", ((0, 4.0), (500, GONE)),
           1200, 300, 200, 4, open_at_end=False),
    Ledger("a sample 100 s before the hour carries in for 200 s", ((-100, 4.0), (200, GONE)),
           800, 200, 0, 4, open_at_end=False),
    Ledger("a sample exactly one limit before the hour carries nothing in", ((-300, 4.0), (60, 2.0), (100, GONE)),
           80, 40, 60, 2, open_at_end=False, open_before=True),
    Ledger("the last sample holds past the hour's end, which cuts it", ((3500, 4.0),),
           400, 100, 0, 4, open_at_end=True),
    Ledger("an end exactly on the hour's end belongs to the next hour", ((3500, 4.0), (3600, GONE)),
           400, 100, 0, 4, open_at_end=True),
    Ledger("first seen at 1000 s: before that it did not exist", ((1000, 1.0), (1100, GONE)),
           100, 100, 0, 1, open_at_end=False),
    Ledger("it existed before: the time to its first sample is missing", ((1000, 1.0), (1100, GONE)),
           100, 100, 1000, 1, open_at_end=False, open_before=True),
    Ledger("NaN, negative and infinite values hold nothing and cut what was held",
           ((0, 4.0), (10, float("nan")), (20, -1.0), (30, float("inf")), (40, 2.0), (50, GONE)),
           60, 20, 30, 4, open_at_end=False),
    Ledger("zero is a quantity: observed, not missing", ((0, 0.0), (100, GONE)), 0, 100, 0, 0, open_at_end=False),
    Ledger("0.1 + 0.2 scales by its shortest decimal form", ((0, 0.1), (100, 0.2), (200, GONE)),
           30, 200, 0, 0.2, open_at_end=False),
    Ledger("half a milli-vCPU rounds away from zero", ((0, 0.0005), (100, GONE)), 0.1, 100, 0, 0.001,
           open_at_end=False),
    Ledger("ended and came back: absent between", ((0, 1.0), (100, GONE), (200, 1.0), (300, GONE)),
           200, 200, 0, 1, open_at_end=False),
    Ledger("nothing at all, and it existed: the whole hour is missing", (), 0, 0, 3600, 0, open_at_end=True,
           open_before=True),
    Ledger("nothing at all, and it did not exist", (), 0, 0, 0, 0, open_at_end=False),
    Ledger("it existed, its end is all that is seen: missing up to the end", ((600, GONE),),
           0, 0, 600, 0, open_at_end=False, open_before=True),
]  # fmt: skip


@pytest.mark.parametrize("ledger", LEDGERS, ids=lambda ledger: ledger.story)
def test_an_hour_of_one_gauge(ledger: Ledger) -> None:
    found = hour_of(ledger.samples, open_before=ledger.open_before)
    columns = found.integrals, found.observed_ms, found.missing_ms, found.peaks, found.open_at_end
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    expected = (
        round(ledger.vcpu_seconds * 1_000_000),
        ledger.observed * 1000,
        ledger.missing * 1000,
        round(ledger.peak * 1000),
        ledger.open_at_end,
    )
    was_there = ledger.observed or ledger.missing or ledger.open_before
    assert rows == ([expected] if was_there else [])


def test_overlapping_series_count_once_at_the_higher_level() -> None:
    """
    0 s    pod-1: 4 vCPU
    100 s  pod-2: 6 vCPU        6 counts, not 10
    200 s  pod-2 ends           4 counts again
    250 s  pod-1 ends
    """
    found = hour_of(((0, 4.0), (250, GONE)), ((100, 6.0), (200, GONE)))
    assert points(found) == [(0, 100, 4000), (100, 200, 6000), (200, 250, 4000)]
    assert found.integrals.tolist() == [(4 * 150 + 6 * 100) * 1_000_000]


def test_one_of_two_series_ends_and_the_thing_goes_on() -> None:
    """
    0 s    pod-1 and pod-2: 4 vCPU
    100 s  pod-1 ends (relabelled); pod-2 goes on
    400 s  pod-2 falls silent: it is missing from then on, not gone
    """
    found = hour_of(((0, 4.0), (100, GONE)), ((0, 4.0), (100, 4.0)))
    assert found.missing_ms.tolist() == [HOUR_MS - 400_000]
    assert found.open_at_end.tolist() == [True]


def test_a_series_without_a_quantity_is_nothing() -> None:
    assert points(hour_of((), ((0, float("nan")),))) == []


def test_a_level_past_ten_million_vcpu_is_no_quantity() -> None:
    assert points(hour_of(((0, 2e7),))) == []


def test_equal_levels_are_one_stretch_and_gaps_are_none() -> None:
    found = hour_of(((0, 1.0), (100, 1.0), (200, 2.0), (300, FAILED), (1000, 2.0), (1010, GONE)))
    assert points(found) == [(0, 200, 1000), (200, 300, 2000), (1000, 1010, 2000)]
