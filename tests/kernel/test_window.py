"""Windows tile, and months have the length that their zone says."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import from_ms, to_ms
from kernel.errors import InvalidInput
from kernel.window import (
    DAY_MS,
    HOUR_MS,
    Window,
    day_of,
    hour_of,
    hours_in,
    month,
    month_name,
    previous_month,
    uncovered,
)

MOMENTS = st.integers(min_value=-(10**12), max_value=10**13)
ZONES = ["Etc/UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
MONTHS = st.builds("{:04}-{:02}".format, st.integers(1971, 2090), st.integers(1, 12))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start = draw(MOMENTS)
    return Window(start, start + draw(st.integers(1, 40 * DAY_MS)))


@given(windows(), st.lists(MOMENTS, max_size=6), st.data())
def test_a_split_tiles(window: Window, edges: list[int], data: st.DataObject) -> None:
    inside = data.draw(st.lists(st.integers(window.start_ms, window.end_ms), max_size=4))
    pieces = list(window.split([*edges, *inside]))
    assert pieces[0].start_ms == window.start_ms
    assert pieces[-1].end_ms == window.end_ms
    assert all(one.end_ms == two.start_ms for one, two in pairwise(pieces))
    assert sum(piece.length_ms for piece in pieces) == window.length_ms


@given(windows())
def test_hours_cover_a_window_and_touch_it(window: Window) -> None:
    hours = list(hours_in(window))
    assert hours[0].start_ms <= window.start_ms < hours[0].end_ms
    assert hours[-1].start_ms < window.end_ms <= hours[-1].end_ms
    assert len(hours) == (hours[-1].end_ms - hours[0].start_ms) // HOUR_MS
    assert all(hour.start_ms % HOUR_MS == 0 for hour in hours)


@given(MOMENTS)
def test_a_moment_is_in_its_hour_and_day(moment: int) -> None:
    assert moment in hour_of(moment)
    assert moment in day_of(moment)
    assert hour_of(moment).start_ms % HOUR_MS == day_of(moment).start_ms % DAY_MS == 0


@given(windows(), windows())
def test_an_intersection_is_what_both_hold(one: Window, two: Window) -> None:
    both = one.intersection(two)
    assert both == two.intersection(one)
    for moment in (one.start_ms, one.end_ms - 1, two.start_ms, two.end_ms - 1, one.end_ms, two.end_ms):
        assert (moment in one and moment in two) == (both is not None and moment in both)


@given(MONTHS, st.sampled_from(ZONES))
def test_months_tile_in_every_zone(name: str, zone: str) -> None:
    window = month(name, zone)
    assert month(previous_month(name), zone).end_ms == window.start_ms
    assert month_name(window.start, zone) == month_name(from_ms(window.end_ms - 1), zone) == name
    local = window.start.astimezone(ZoneInfo(zone))
    assert (local.day, local.hour, local.minute) == (1, 0, 0)


@pytest.mark.parametrize(
    ("name", "zone", "hours"),
    [
        ("2026-03", "Etc/UTC", 744),
        ("2026-03", "America/New_York", 743),  # summer time begins on 8 March
        ("2026-11", "America/New_York", 721),  # and ends on 1 November
        ("2026-10", "Europe/Berlin", 745),
        ("2024-02", "Asia/Kolkata", 696),
        ("2026-04", "Australia/Lord_Howe", 720.5),  # whose summer time is half an hour
        ("2011-12", "Pacific/Apia", 720),  # which had no 30 December
    ],
)
def test_a_month_has_the_hours_of_its_zone(name: str, zone: str, hours: float) -> None:
    assert month(name, zone).length_ms == hours * HOUR_MS


def test_a_window_is_half_open() -> None:
    window = Window(10, 20)
    assert 10 in window
    assert 20 not in window
    for end in (10, 9):
        with pytest.raises(ValueError, match="end after"):
            Window(10, end)
    with pytest.raises(ValueError, match="no time zone"):
        Window.between(datetime(2026, 1, 1), datetime(2026, 1, 2))  # noqa: DTZ001 - naive on purpose


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_milliseconds_and_moments_are_inverse(moment: datetime) -> None:
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert from_ms(to_ms(moment)) == whole


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "2026-1", "0001-01", "1969-12", "9999-01", "２０２６-01"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    for zone in ("Asia/Kolkata", "America/New_York"):
        with pytest.raises(InvalidInput, match="YYYY-MM"):
            month(text, zone)


@given(st.text(max_size=12))
def test_any_text_is_a_month_or_refused(text: str) -> None:
    try:
        window = month(text)
    except InvalidInput:
        return
    assert month_name(window.start) == text


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../../etc/passwd", "a\0b", "/etc/localtime", "x" * 300])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        month("2026-01", zone)


SPANS = st.tuples(st.integers(0, 20), st.integers(1, 9)).map(lambda pair: Window(pair[0], pair[0] + pair[1]))


@given(SPANS, st.lists(SPANS, max_size=5))
def test_what_others_leave_of_a_window(window: Window, others: list[Window]) -> None:
    parts = list(uncovered(window, others))
    left = {at for at in range(window.start_ms, window.end_ms) if not any(at in other for other in others)}
    assert {at for part in parts for at in range(part.start_ms, part.end_ms)} == left
    assert all(first.end_ms < second.start_ms for first, second in pairwise(parts))
