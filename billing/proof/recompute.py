"""An invoice's hours computed again from the frames that collectors kept, and held against its rows.

What is compared, in this order: each batch that the vendor signed with the collector's receipt and body; each kept
frame with the batches; each hour with the row. The first difference is raised with its file and place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from billing.proof.columns import Columns, computed_hours
from billing.proof.compared import HISTORY_LANE, LOOK_BACK_MS, Compared, Given, Kept
from billing.proof.evidence import Evidence
from billing.proof.metered_again import Spared, compare_meters
from billing.proof.rows import ROWS
from kernel.errors import InvalidInput
from kernel.window import Window, hour_of, hours_in
from metering.batches import StoredBatch
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.model import UsageRow
from metering.usage.pieces import Figures, cut, pieces_of


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
    rows = _Rows(given, frozenset(project for project, _ in absent), unseen)
    hours = _hours(given, used, before, rows)
    rows.conclude()
    spared = Spared(rows.absent, frozenset(rows.with_history))
    metered, left = compare_meters(given, used, before, spared)
    proved.append(
        f"hours: {rows.equal} of {len(given.usage.rows)} rows recomputed from {used.count} samples, {hours} hours"
    )
    proved += metered
    unproved += left
    for project, collector in absent:
        known = "; rows that differ from what the others saw count as its own" if project in mine else ""
        unproved.append(
            f"hours: what collector {collector} of project {project} sent: its spool was not given{known}"
        )
    return proved, [*unproved, *rows.unproved()]


class _Rows:
    """Rows of the invoice against hours that were computed again."""

    def __init__(self, given: Given, absent: frozenset[str], unseen: Sequence[StoredBatch]) -> None:
        self._given, self.absent = given, absent
        self._rows: dict[tuple[Component, int], tuple[int, UsageRow]] = {}
        for line, row in enumerate(given.usage.rows, 1):
            key = Component(row.project, row.cluster, row.component), hour_of(row.hour.start_ms).start_ms
            if key in self._rows:
                raise given.wrong(
                    ROWS, f"line {line}", "a component and hour twice", f"line {self._rows[key][0]} alone"
                )
            self._rows[key] = line, row
        self.with_history = _files_of(given.evidence, unseen)
        self._left: Counter[tuple[str, str]] = Counter()
        self.before: set[Component] = set()
        self.equal = 0

    def first(self, hour: Window) -> frozenset[Component]:
        """The components with a row of this hour, but those that an absent collector may have seen."""
        return frozenset(
            component
            for component, start_ms in self._rows
            if start_ms == hour.start_ms and component.project not in self.absent
        )

    def compare(self, hour: Window, found: Sequence[ComponentHour]) -> None:
        """Raises InvalidInput for the first row that is not what was computed."""
        for one in self._in_period(hour, found):
            known = self._rows.pop((one.component, hour.start_ms), None)
            if known is None:
                where = f"{one.component.cluster} {one.component.name}, hour of {hour.start.isoformat()}"
                raise self._given.wrong(ROWS, where, "no row", f"{_figures(one)}, by the kept frames")
            line, row = known
            if _figures(row) == _figures(one):
                self.equal += 1
            elif not self._excuse(row, one.observed_ms):
                found_text, allowed = _figures(row), f"{_figures(one)}, by the kept frames"
                raise self._given.wrong(ROWS, f"line {line}", found_text, allowed)

    def _in_period(self, hour: Window, found: Sequence[ComponentHour]) -> Iterator[ComponentHour]:
        """What was computed of an hour, cut to the period, which may begin inside it."""
        inside = hour.intersection(self._given.usage.window)
        for one in found:
            if inside is None or inside == hour:
                yield one
                continue
            whole = Figures(one.milli_vcpu_ms, one.observed_ms, one.missing_ms, one.peak_milli_vcpu)
            part = cut(whole, pieces_of(one.shape, hour, None) if one.shape else None, hour, inside)
            if part and (part.observed_ms or part.missing_ms):
                yield one._replace(
                    milli_vcpu_ms=part.milli_vcpu_ms,
                    observed_ms=part.observed_ms,
                    missing_ms=part.missing_ms,
                    peak_milli_vcpu=part.peak_milli_vcpu,
                )

    def conclude(self) -> None:
        """What is left are rows of which no frame was seen."""
        for line, row in sorted(self._rows.values(), key=lambda one: one[0]):
            if not self._excuse(row, 0):
                raise self._given.wrong(ROWS, f"line {line}", _figures(row), "rows of what the kept frames hold")

    def unproved(self) -> list[str]:
        left = [
            f"hours: {count} rows of project {project}: {why}"
            for (project, why), count in sorted(self._left.items())
        ]
        return left + [
            f"hours: that {one.name} of cluster {one.cluster} existed before: no kept frame of two days says so"
            for one in sorted(self.before)
        ]

    def _excuse(self, row: UsageRow, observed_ms: int) -> bool:
        """Why a row may differ; counted. Another collector's view counts only if it observed at least as much."""
        if row.project in self.absent and row.observed_ms >= observed_ms:
            self._left[row.project, "another collector, whose spool was not given, may have seen more"] += 1
            return True
        if any(source in self.with_history for source in row.sources):
            self._left[row.project, "their files hold a backfill, whose frames are not kept"] += 1
            return True
        return False


def _figures(one: UsageRow | ComponentHour) -> str:
    return (
        f"{one.milli_vcpu_ms} milli-vCPU-ms, {one.observed_ms} ms observed, {one.missing_ms} ms missing, "
        f"peak {one.peak_milli_vcpu}"
    )


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


def _hours(given: Given, used: Columns, before: Columns, rows: _Rows) -> int:
    """Compute and compare day by day; how many hours."""
    limit_ms, period = given.evidence.limit_ms, given.usage.window
    hours = list(hours_in(period))
    earlier = list(hours_in(Window(hours[0].start_ms - LOOK_BACK_MS, hours[0].start_ms)))
    seen = computed_hours(before, earlier, limit_ms, frozenset())
    is_open = frozenset(one.component for one in seen[earlier[-1]] if one.open_at_end)
    known = {one.component for found in seen.values() for one in found}
    unknown = rows.first(hours[0]) - known
    if unknown:
        alone, with_them = (
            {one.component: _figures(one) for one in computed_hours(used, hours[:1], limit_ms, before)[hours[0]]}
            for before in (is_open, is_open | unknown)
        )
        rows.before = {one for one in unknown if alone.get(one) != with_them.get(one)}
        is_open |= rows.before
    for start in range(0, len(hours), 24):
        run = hours[start : start + 24]
        found = computed_hours(used, run, limit_ms, is_open)
        for hour in run:
            rows.compare(hour, found[hour])
        is_open = frozenset(one.component for one in found[run[-1]] if one.open_at_end)
    return len(hours)
