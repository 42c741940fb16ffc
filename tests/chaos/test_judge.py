"""The judge itself: it must see one lost, one doubled, one altered and one invented value."""

from __future__ import annotations

import math

import pytest

from console.demo.witness import Row
from tests.chaos.judge import judge
from tests.chaos.target import Labels, Page, make_page

TENANT = {"organization": "org-a", "project": "project-a", "job": "chaos"}
PAGES = [make_page(instance, number, 1000 * number) for instance in ("one", "two") for number in range(1, 7)]


def rows_of(page: Page) -> list[Row]:
    up = {"__name__": "up", "instance": page.instance, **TENANT}
    scraped = [
        ({**dict(labels), "instance": page.instance, **TENANT}, value) for labels, value in page.samples.items()
    ]
    return [(attached(labels), page.served_ms - 3, value) for labels, value in [(up, 1.0), *scraped]]


def attached(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


@pytest.fixture
def rows() -> list[Row]:
    return [row for page in PAGES for row in rows_of(page)]


def test_what_is_there_once_and_as_it_was_is_clean(rows: list[Row]) -> None:
    stale = [(labels, 999_000, math.nan) for labels, _, _ in rows[:4]]
    verdict = judge(rows + stale, PAGES, 6000)
    assert verdict.is_clean
    assert verdict.stored == sum(len(page.samples) for page in PAGES)


def test_a_lost_value_and_a_lost_page_are_seen(rows: list[Row]) -> None:
    assert len(judge(rows[:2] + rows[3:], PAGES, 6000).lost) == 1
    without = [row for row in rows if row not in rows_of(PAGES[3])]
    assert judge(without, PAGES, 6000).lost == ["page ('one', 4)"]
    assert judge(without, PAGES, 3999).is_clean
    assert judge(without, PAGES, 6000, unsettled=[PAGES[3]]).is_clean


def test_of_a_page_that_was_not_promised_the_half_is_an_error(rows: list[Row]) -> None:
    half = [row for row in rows if row not in rows_of(PAGES[5])[4:]]
    assert judge(half, PAGES, 6000, unsettled=[PAGES[5]]).lost


def test_a_scrape_that_the_collector_reports_as_failed_is_not_lost(rows: list[Row]) -> None:
    gone = rows_of(PAGES[3])
    without = [row for row in rows if row not in gone]
    labels, at_ms, _ = gone[0]
    assert judge([*without, (labels, at_ms, 0.0)], PAGES, 6000).is_clean
    assert judge([*without, (labels, at_ms - 2000, 0.0)], PAGES, 6000).lost


def test_of_scrapes_that_failed_in_a_row_as_many_pages_may_be_missing_and_no_more(rows: list[Row]) -> None:
    gone = [*rows_of(PAGES[3]), *rows_of(PAGES[4])]
    without = [row for row in rows if row not in gone]
    labels = gone[0][0]
    # Both were asked for and given up before the first of them was made.
    failed = [(labels, at_ms, 0.0) for at_ms in (3100, 3200)]
    assert judge([*without, *failed], PAGES, 6000).is_clean
    assert judge([*without, failed[0]], PAGES, 6000).lost == ["page ('one', 4)", "page ('one', 5)"]
    other = [({**dict(labels), "instance": "two"}, at_ms) for _, at_ms, _ in failed]
    assert judge([*without, *((attached(of), at_ms, 0.0) for of, at_ms in other)], PAGES, 6000).lost


def test_a_row_or_a_page_that_is_there_twice_is_seen(rows: list[Row]) -> None:
    assert len(judge([*rows, rows[5]], PAGES, 6000).duplicated) == 1
    later = [(labels, at_ms - 1, value) for labels, at_ms, value in rows_of(PAGES[2])]
    assert judge(rows + later, PAGES, 6000).duplicated == ["page ('one', 3) at 2 times"]


def test_another_value_sign_or_time_and_an_invented_row_are_seen(rows: list[Row]) -> None:
    zero = next(index for index, row in enumerate(rows) if str(row[2]) == "-0.0")
    labels, at_ms, _ = rows[zero]
    assert len(judge([*rows[:zero], (labels, at_ms, 0.0), *rows[zero + 1 :]], PAGES, 6000).different) == 1
    assert len(judge([*rows, (labels, 17, 5.0)], PAGES, 6000).different) == 1
    late = [(labels, at_ms + 10, value) for labels, at_ms, value in rows]
    assert len(judge(late, PAGES, 6000).different) == len(PAGES)
