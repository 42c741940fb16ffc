"""Integer step functions of time: what usage sums, commitments subtract and overage integrates. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import itemgetter

from kernel.window import Window

_time = itemgetter(0)


@dataclass(frozen=True, slots=True)
class StepFunction:
    """Right-continuous and piecewise constant: `(at_ms, value)` holds from `at_ms` to the next point.

    Zero before the first point. Times strictly increase and neighbours differ, so equal functions compare equal;
    build with `of`, which normalises.
    """

    points: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, points: Iterable[tuple[int, int]]) -> StepFunction:
        """From (ms, value) points; of two at one time the later in the iteration wins."""
        return cls(_changes(sorted(dict(points).items())))

    @classmethod
    def constant(cls, window: Window, value: int) -> StepFunction:
        """`value` inside the window, zero outside."""
        return cls.of([(window.start_ms, value), (window.end_ms, 0)])

    @classmethod
    def sum_of(cls, functions: Iterable[StepFunction]) -> StepFunction:
        """The sum on the union of all breakpoints."""
        changes: dict[int, int] = {}
        for function in functions:
            before = 0
            for at_ms, value in function.points:
                changes[at_ms] = changes.get(at_ms, 0) + value - before
                before = value
        times = sorted(changes)
        return cls(_changes(zip(times, accumulate(changes[at_ms] for at_ms in times), strict=True)))

    def at(self, moment_ms: int) -> int:
        """The value at that time."""
        index = bisect_right(self.points, moment_ms, key=_time)
        return self.points[index - 1][1] if index else 0

    def __add__(self, other: StepFunction) -> StepFunction:
        return StepFunction.sum_of((self, other))

    def __sub__(self, other: StepFunction) -> StepFunction:
        return self + StepFunction(tuple((at_ms, -value) for at_ms, value in other.points))

    def positive_part(self) -> StepFunction:
        """max(0, f)."""
        return StepFunction(_changes((at_ms, max(0, value)) for at_ms, value in self.points))

    def within(self, window: Window) -> StepFunction:
        """The same inside the window, zero outside."""
        first = bisect_right(self.points, window.start_ms, key=_time)
        last = bisect_left(self.points, window.end_ms, key=_time)
        level = self.points[first - 1][1] if first else 0
        return StepFunction(_changes(((window.start_ms, level), *self.points[first:last], (window.end_ms, 0))))

    def pieces(self, window: Window) -> Iterable[tuple[Window, int]]:
        """The windows of constant value that tile `window`, zeros included, in order."""
        for start, end, value in self._spans(window):
            yield Window(start, end), value

    def integral(self, window: Window) -> int:
        """The exact integral over the window, in value times milliseconds."""
        return sum(value * (end - start) for start, end, value in self._spans(window))

    def maximum(self, window: Window) -> int:
        """The largest value inside the window."""
        return max(value for _, _, value in self._spans(window))

    def _spans(self, window: Window) -> Iterator[tuple[int, int, int]]:
        """Start, end and value of each piece of `window`: looks at the points inside it and no others."""
        first = bisect_right(self.points, window.start_ms, key=_time)
        start, value = window.start_ms, self.points[first - 1][1] if first else 0
        for at_ms, following in islice(self.points, first, None):
            if at_ms >= window.end_ms:
                break
            yield start, at_ms, value
            start, value = at_ms, following
        yield start, window.end_ms, value


def _changes(points: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Those of points with rising times that change the value."""
    kept: list[tuple[int, int]] = []
    before = 0
    for point in points:
        if point[1] != before:
            kept.append(point)
            before = point[1]
    return tuple(kept)
