"""An invoice's hours computed again from the frames that collectors kept, and held against its rows.

What is compared, in this order: each batch that the vendor signed with the collector's receipt and body; each kept
frame with the batches; each hour with its rows, gaps and levels. The first difference is raised with
its file and place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from billing.proof.columns import Columns, computed_hours
from billing.proof.compared import HISTORY_LANE, LOOK_BACK_MS, Compared, Given, Kept
from billing.proof.evidence import Evidence
from billing.proof.gaps_again import ComparedGaps
from billing.proof.metered_again import Spared, compare_meters
from billing.proof.rows_again import ComparedRows, figures
from billing.proof.steps_again import ComparedSteps
from kernel.errors import InvalidInput
from kernel.window import Window, hours_in
from metering.batches import StoredBatch
from metering.usage.hours import UsageHour
from metering.usage.meter import Component


def recompute(given: Given, spools: Sequence[Kept]) -> tuple[list[str], list[str]]:
    """What was proved and what was not, in words. Raises InvalidInput naming the first difference."""
    used, before = Columns(), Columns()
    proved, unproved, owners = [], [], set()
    without_body: set[tuple[str, str, str, int, int]] = set()
    for kept in spools:
        organization, project, collector = kept.owner()
        if organization != given.usage.organization or (project, collector) in owners:
            allowed = f"one spool for each collector of {given.usage.organization}"
            raise InvalidInput.single("--spool", "owner", f"{organization}/{project}/{collector}", allowed)
        owners.add((project, collector))
        compared = Compared(given, kept, (project, collector))
        compared.run(used, before)
        proved.append(compared.summary())
        unproved += compared.left_out
        without_body |= {(project, collector, *position) for position in compared.without_body}
    mine = {project for project, _ in owners}
    absent = sorted({(one.project, one.collector) for one in given.evidence.batches} - owners)
    unseen = _unseen(given.evidence, owners, without_body)
    spared = Spared(frozenset(project for project, _ in absent), frozenset(_files_of(given.evidence, unseen)))
    again = _Again(given, spared)
    hours = again.run(used, before)
    metered, left = compare_meters(given, used, before, spared)
    many = f"{again.rows.equal} of {again.rows.count}"
    proved.append(f"hours: {many} rows recomputed from {used.count} samples, {hours} hours")
    proved += [*again.rows.changes.proved(), again.steps.proved(), *again.gaps.proved(), *metered]
    unproved += left
    for project, collector in absent:
        known = "; rows that differ from what the others saw count as its own" if project in mine else ""
        unproved.append(
            f"hours: what collector {collector} of project {project} sent: its spool was not given{known}"
        )
    return proved, [*unproved, *again.unproved()]


def _unseen(
    evidence: Evidence,
    owners: Collection[tuple[str, str]],
    without_body: Collection[tuple[str, str, str, int, int]],
) -> list[StoredBatch]:
    """The backfills whose frames no given spool has."""
    return [
        one
        for one in evidence.batches
        if one.lane == HISTORY_LANE
        and (
            (one.project, one.collector) not in owners
            or (one.project, one.collector, one.lane, one.epoch, one.number) in without_body
        )
    ]


def _files_of(evidence: Evidence, batches: Sequence[StoredBatch]) -> set[str]:
    """The files, as rows name them, that hold any of these."""
    return {
        f"{file.name} {file.sha256}"
        for file in evidence.files
        if any(
            one.project == file.project
            and any(
                (one.topic, one.partition) == each[:2] and each.first <= one.offset <= each.last
                for each in file.offsets
            )
            for one in batches
        )
    }


class _Again:
    """The hours of the period, a day at a time: computed, then rows, gaps and steps compared with them."""

    def __init__(self, given: Given, spared: Spared) -> None:
        self._given, self._spared = given, spared
        self.gaps = ComparedGaps(given)
        self.rows = ComparedRows(given, spared, self.gaps)
        self.steps = ComparedSteps(given, spared)

    def run(self, used: Columns, before: Columns) -> int:
        """How many hours there were. Raises InvalidInput naming the first difference."""
        limit_ms, hours = self._given.evidence.limit_ms, list(hours_in(self._given.window))
        is_open = self._open_at_start(used, before, hours[0])
        for start in range(0, len(hours), 24):
            run = hours[start : start + 24]
            found = computed_hours(used, run, limit_ms, is_open)
            certain = self._certain(used, run)
            for hour in run:
                self.gaps.follow(hour, found[hour].components)
                self.rows.compare(hour, found[hour].components)
                self.steps.compare(hour, self.rows.of_hour(hour), found[hour], partial(certain, hour))
            is_open = _open_at_end(found[run[-1]])
        return len(hours)

    def _certain(self, used: Columns, run: Sequence[Window]) -> Callable[[Window], UsageHour]:
        """From an hour of the run to what no absent collector has to do with; computed once it is asked for."""
        found: dict[Window, UsageHour] = {}

        def of_hour(hour: Window) -> UsageHour:
            if not found:
                limit_ms = self._given.evidence.limit_ms
                found.update(computed_hours(used, run, limit_ms, frozenset(), self._spared.projects))
            return found[hour]

        return of_hour

    def unproved(self) -> list[str]:
        return [*self.rows.unproved(), *self.steps.unproved(), *self.gaps.unproved()]

    def _open_at_start(self, used: Columns, before: Columns, first: Window) -> frozenset[Component]:
        """The components that existed when the period began."""
        limit_ms = self._given.evidence.limit_ms
        earlier = list(hours_in(Window(first.start_ms - LOOK_BACK_MS, first.start_ms)))
        seen = computed_hours(before, earlier, limit_ms, frozenset())
        for hour in earlier:
            self.gaps.follow(hour, seen[hour].components)
        is_open = _open_at_end(seen[earlier[-1]])
        unknown = self.rows.first(first) - {one.component for found in seen.values() for one in found.components}
        if unknown:
            alone, with_them = (
                {
                    one.component: figures(one)
                    for one in computed_hours(used, [first], limit_ms, existed)[first].components
                }
                for existed in (is_open, is_open | unknown)
            )
            self.rows.before = {one for one in unknown if alone.get(one) != with_them.get(one)}
            is_open |= self.rows.before
        return is_open


def _open_at_end(hour: UsageHour) -> frozenset[Component]:
    return frozenset(one.component for one in hour.components if one.open_at_end)
