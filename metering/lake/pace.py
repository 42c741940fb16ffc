"""When what is pending is committed: later if that makes many files, and soon if an hour waits for it. Pure.

A file costs its making, a PUT and a share of a merge, however few samples are in it, and each commit makes one for
each project. So the more projects, the longer a commit waits, and the files of a day stay about as many. What is
billed does not wait: a push that takes its lane over the end of an hour lets that hour be closed.
"""

from __future__ import annotations

from kernel.window import HOUR_MS
from metering.lake.horizon import Source
from metering.lake.settings import LakeSettings
from metering.record import BatchHeader, Lane


def commit_after_seconds(files: int, settings: LakeSettings, *, ends_an_hour: bool) -> float:
    """Seconds from the first unstored record to the commit that would make so many files of samples."""
    least = settings.commit_seconds
    if ends_an_hour:
        return least
    return max(least, min(least * files / settings.commit_files, settings.commit_seconds_most))


class HourEnds:
    """Which hour each billing lane has promised to be complete through."""

    def __init__(self) -> None:
        self._hours: dict[Source, int] = {}

    def is_one(self, header: BatchHeader) -> bool:
        """Whether a push is the first of its lane that is complete through another hour than those before."""
        if header.lane is not Lane.BILLING or header.complete_through_ms is None:
            return False
        source, hour = Source.of(header), header.complete_through_ms // HOUR_MS
        if hour <= self._hours.get(source, -1):
            return False
        self._hours[source] = hour
        return True

    def forget(self) -> None:
        """After pending records were dropped: they come again, and with them the ends of hours."""
        self._hours.clear()
