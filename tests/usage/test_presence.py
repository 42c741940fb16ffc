"""Hand-worked stretches of one gauge: held, missing, absent. Times in seconds, limit 300 s, window one hour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from kernel.quantity import MILLI_VCPU
from kernel.window import Window
from metering.usage.presence import GaugeSamples, Held, hold, missing, open_at, union
from tests.usage.scrapes import STALE

LIMIT_MS = 300_000
HOUR = Window(0, 3_600_000)
ENDED = "ended"  # a stale marker of a scrape that succeeded
FAILED = "failed"  # a stale marker of a scrape that failed


def series(*samples: tuple[int, float | str]) -> GaugeSamples:
    values = [STALE if isinstance(value, str) else value for _, value in samples]
    return GaugeSamples(
        np.asarray([at * 1000 for at, _ in samples], np.int64),
        np.asarray(values, np.float64),
        np.asarray([value == ENDED for _, value in samples], np.bool_),
    )


def held_of(*samples: tuple[int, float | str]) -> Held:
    return hold(series(*samples), LIMIT_MS, MILLI_VCPU.scale)


def ended_of(*samples: tuple[int, float | str]) -> list[int]:
    return [at * 1000 for at, value in samples if value == ENDED]


@dataclass(frozen=True)
class Ledger:
    """Samples, and what the hour says: vCPU-seconds, observed and missing seconds, peak vCPU, open at its end."""

    story: str
    samples: tuple[tuple[int, float | str], ...]
    vcpu_seconds: float
    observed: int
    missing: int
    peak: float
    open_at_end: bool
    open_before: bool = False


LEDGERS = [
    Ledger("0 s: 4 vCPU; 200 s: 8 vCPU, each holds to the next", ((0, 4.0), (200, 8.0), (400, ENDED)),
           4 * 200 + 8 * 200, 400, 0, 8, open_at_end=False),
    Ledger("a sample alone holds 300 s, then the time is missing to the end", ((0, 4.0),),
           4 * 300, 300, 3300, 4, open_at_end=True),
    Ledger("the series ended at 100 s in a good scrape: absent, not missing", ((0, 4.0), (100, ENDED)),
           400, 100, 0, 4, open_at_end=False),
    Ledger("the scrape failed at 100 s: missing from there", ((0, 4.0), (100, FAILED)),
           400, 100, 3500, 4, open_at_end=True),
    Ledger("failed at 100 s, back at 160 s, ended at 200 s: 60 s are missing", ((0, 4.0), (100, FAILED), (160, 4.0),
           (200, ENDED)), 560, 140, 60, 4, open_at_end=False),
    Ledger("silent past the limit, the end seen at 500 s: missing 300 to 500 s", ((0, 4.0), (500, ENDED)),
           1200, 300, 200, 4, open_at_end=False),
    Ledger("a sample 100 s before the hour carries in for 200 s", ((-100, 4.0), (200, ENDED)),
           800, 200, 0, 4, open_at_end=False),
    Ledger("a sample exactly one limit before the hour carries nothing in", ((-300, 4.0), (60, 2.0), (100, ENDED)),
           80, 40, 60, 2, open_at_end=False, open_before=True),
    Ledger("the last sample holds past the hour's end, which cuts it", ((3500, 4.0),),
           400, 100, 0, 4, open_at_end=True),
    Ledger("an end exactly on the hour's end belongs to the next hour", ((3500, 4.0), (3600, ENDED)),
           400, 100, 0, 4, open_at_end=True),
    Ledger("first seen at 1000 s: before that it did not exist", ((1000, 1.0), (1100, ENDED)),
           100, 100, 0, 1, open_at_end=False),
    Ledger("it existed before: the time to its first sample is missing", ((1000, 1.0), (1100, ENDED)),
           100, 100, 1000, 1, open_at_end=False, open_before=True),
    Ledger("NaN, negative and infinite values hold nothing and cut what was held",
           ((0, 4.0), (10, float("nan")), (20, -1.0), (30, float("inf")), (40, 2.0), (50, ENDED)),
           60, 20, 30, 4, open_at_end=False),
    Ledger("zero is a quantity: observed, not missing", ((0, 0.0), (100, ENDED)), 0, 100, 0, 0, open_at_end=False),
    Ledger("0.1 + 0.2 scales by its shortest decimal form", ((0, 0.1), (100, 0.2), (200, ENDED)),
           30, 200, 0, 0.2, open_at_end=False),
    Ledger("half a milli-vCPU rounds away from zero", ((0, 0.0005), (100, ENDED)), 0.1, 100, 0, 0.001,
           open_at_end=False),
    Ledger("ended and came back: absent between", ((0, 1.0), (100, ENDED), (200, 1.0), (300, ENDED)),
           200, 200, 0, 1, open_at_end=False),
    Ledger("nothing at all, and it existed: the whole hour is missing", (), 0, 0, 3600, 0, open_at_end=True,
           open_before=True),
    Ledger("nothing at all, and it did not exist", (), 0, 0, 0, 0, open_at_end=False),
    Ledger("it existed, its end is all that is seen: missing up to the end", ((600, ENDED),),
           0, 0, 600, 0, open_at_end=False, open_before=True),
]  # fmt: skip


@pytest.mark.parametrize("ledger", LEDGERS, ids=lambda ledger: ledger.story)
def test_an_hour_of_one_gauge(ledger: Ledger) -> None:
    held, ended = held_of(*ledger.samples), ended_of(*ledger.samples)
    ended_in_hour = [at for at in ended if at in HOUR]
    gaps = missing(held, ended_in_hour, HOUR, open_before=ledger.open_before)
    assert held.integral(HOUR) == round(ledger.vcpu_seconds * 1_000_000)
    assert held.observed_ms(HOUR) == ledger.observed * 1000
    assert sum(gap.length_ms for gap in gaps) == ledger.missing * 1000
    assert held.peak(HOUR) == round(ledger.peak * 1000)
    is_open = open_at(held, ended_in_hour, HOUR.end_ms, open_before=ledger.open_before)
    assert is_open is ledger.open_at_end


def test_overlapping_series_count_once_at_the_higher_level() -> None:
    """
    0 s    pod-1: 4 vCPU
    100 s  pod-2: 6 vCPU        6 counts, not 10
    200 s  pod-2 ends           4 counts again
    250 s  pod-1 ends
    """
    both = union([held_of((0, 4.0), (250, ENDED)), held_of((100, 6.0), (200, ENDED))])
    assert both.points(HOUR) == [(0, 4000), (100_000, 6000), (200_000, 4000), (250_000, 0)]
    assert both.integral(HOUR) == (4 * 150 + 6 * 100) * 1_000_000


def test_one_of_two_series_ends_and_the_thing_goes_on() -> None:
    """
    0 s    pod-1 and pod-2: 4 vCPU
    100 s  pod-1 ends (relabelled); pod-2 goes on
    400 s  pod-2 falls silent: it is missing from then on, not gone
    """
    held = union([held_of((0, 4.0), (100, ENDED)), held_of((0, 4.0), (100, 4.0))])
    gaps = missing(held, [100_000], HOUR, open_before=False)
    assert gaps == [Window(400_000, 3_600_000)]
    assert open_at(held, [100_000], HOUR.end_ms, open_before=False)


def test_union_of_nothing_is_nothing() -> None:
    assert len(union([held_of(), held_of((0, float("nan")))]).starts) == 0


def test_a_level_past_ten_million_vcpu_is_no_quantity() -> None:
    assert len(held_of((0, 2e7)).starts) == 0


def test_points_join_contiguous_levels_and_drop_to_zero_in_gaps() -> None:
    held = held_of((0, 1.0), (100, 1.0), (200, 2.0), (300, FAILED), (1000, 2.0), (1010, ENDED))
    assert held.points(HOUR) == [(0, 1000), (200_000, 2000), (300_000, 0), (1_000_000, 2000), (1_010_000, 0)]
