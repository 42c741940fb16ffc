"""Half-open UTC windows `[start, end)`: hours, days, and months whose edges lie in a named zone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kernel.clock import from_ms, to_ms
from kernel.errors import InvalidInput

HOUR_MS = 3_600_000
QUARTER_MS = HOUR_MS // 4  # the midnights of every zone in use lie at quarters of UTC hours
DAY_MS = 24 * HOUR_MS
FIRST_YEAR, LAST_YEAR = 1970, 9999  # beyond them some zone's midnight is no datetime
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`[start, end)` in milliseconds since the epoch, UTC."""

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"a window must end after it starts: [{self.start_ms}, {self.end_ms})")

    @classmethod
    def between(cls, start: datetime, end: datetime) -> Window:
        return cls(to_ms(start), to_ms(end))

    @property
    def start(self) -> datetime:
        return from_ms(self.start_ms)

    @property
    def end(self) -> datetime:
        return from_ms(self.end_ms)

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms

    def __contains__(self, moment_ms: int) -> bool:
        return self.start_ms <= moment_ms < self.end_ms

    def intersection(self, other: Window) -> Window | None:
        start, end = max(self.start_ms, other.start_ms), min(self.end_ms, other.end_ms)
        return Window(start, end) if start < end else None

    def split(self, edges_ms: list[int]) -> Iterator[Window]:
        """The windows that tile this one, cut at every edge that lies inside it."""
        start = self.start_ms
        for edge in sorted(set(edges_ms)):
            if self.start_ms < edge < self.end_ms:
                yield Window(start, edge)
                start = edge
        yield Window(start, self.end_ms)

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"


def hour_of(moment_ms: int) -> Window:
    """The UTC hour that holds `moment_ms`."""
    start = moment_ms - moment_ms % HOUR_MS
    return Window(start, start + HOUR_MS)


def day_of(moment_ms: int) -> Window:
    """The UTC day that holds `moment_ms`."""
    start = moment_ms - moment_ms % DAY_MS
    return Window(start, start + DAY_MS)


def hours_in(window: Window) -> Iterator[Window]:
    """Every UTC hour that overlaps `window`, whole, in order."""
    start = window.start_ms - window.start_ms % HOUR_MS
    while start < window.end_ms:
        yield Window(start, start + HOUR_MS)
        start += HOUR_MS


def hull(first: Window, *others: Window) -> Window:
    """The shortest window that holds all of these."""
    every = (first, *others)
    return Window(min(one.start_ms for one in every), max(one.end_ms for one in every))


def uncovered(window: Window, others: Iterable[Window]) -> Iterator[Window]:
    """The parts of a window that none of the others covers, in order."""
    start_ms = window.start_ms
    for other in sorted(others, key=lambda one: one.start_ms):
        if start_ms < (end_ms := min(other.start_ms, window.end_ms)):
            yield Window(start_ms, end_ms)
        start_ms = max(start_ms, other.end_ms)
    if start_ms < window.end_ms:
        yield Window(start_ms, window.end_ms)


def whole_hours(window: Window) -> Window:
    """The UTC hours that overlap `window`, as one."""
    return Window(window.start_ms - window.start_ms % HOUR_MS, window.end_ms + -window.end_ms % HOUR_MS)


def parse_zone(name: str, source: str = "zone") -> ZoneInfo:
    """The zone of that IANA name. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput.single(source, "time zone", repr(name), "an IANA name such as Etc/UTC") from error


def month(text: str, zone: str = "Etc/UTC", source: str = "month") -> Window:
    """The calendar month `YYYY-MM` whose edges are local midnights of `zone`. Raises InvalidInput."""
    found = _MONTH.fullmatch(text)
    year, number = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if not FIRST_YEAR <= year < LAST_YEAR:
        allowed = f"YYYY-MM from {FIRST_YEAR}-01 to {LAST_YEAR - 1}-12"
        raise InvalidInput.single(source, "month", repr(text), allowed)
    local = parse_zone(zone, source)
    start = datetime(year, number, 1, tzinfo=local)
    following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=local)
    return Window.between(start.astimezone(UTC), following.astimezone(UTC))


def month_name(moment: datetime, zone: str = "Etc/UTC") -> str:
    """`YYYY-MM` of the month of `zone` that holds `moment`."""
    return moment.astimezone(parse_zone(zone)).strftime("%Y-%m")


def previous_month(text: str) -> str:
    """`YYYY-MM` of the month before `text`."""
    first = datetime.strptime(text + "-01", "%Y-%m-%d").replace(tzinfo=UTC)
    return (first - timedelta(days=1)).strftime("%Y-%m")
