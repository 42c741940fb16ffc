"""Usage as the other components see it: sealed rows of an hour, a month of them, and the port that reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from operator import itemgetter
from typing import Literal, NamedTuple, Protocol

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.lazy import LazySequence
from kernel.merkle import root_of
from kernel.steps import StepFunction
from kernel.window import Window


@dataclass(frozen=True, slots=True)
class UsageGap:
    """A part of an hour in which a component existed, as far as is known, and was not observed."""

    window: Window
    since_ms: int  # when the whole gap began, perhaps hours before
    milli_vcpu: int | None  # its level just before that; None: not known


@dataclass(frozen=True, slots=True)
class RowRange:
    """Samples in a row group of a file: of one series, or of all that make a meter's row."""

    source: str  # "file-name sha256"
    row_group: int
    first: int  # row in the row group, from 0
    last: int
    count: int  # of so many rows; more lie between where other series do


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one component of one cluster used in one hour, or the piece of it in a window, by one revision.

    `observed_ms` and `missing_ms` together are the time the component existed, as far as is known: at most the
    hour. Missing time is neither zero usage nor full usage.
    """

    organization: OrganizationId
    project: ProjectId
    cluster: ClusterId
    component: str
    hour: Window
    revision: int  # from 1; a late sample makes the next one
    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int
    peak_milli_vcpu: int
    sources: tuple[str, ...]  # "file-name sha256" of the lake files read
    gaps: tuple[UsageGap, ...] = ()  # where the missing time lies; of hours sealed since that is kept
    # Where in the sources its samples stand, see `metering.usage.places`. No part of the digest, nor of what is
    # equal: merging moves rows and changes nothing.
    places: str = field(default="", compare=False)


class CanonicalRow(NamedTuple):
    """All that is billed and proved of a `UsageRow`: the fields of its canonical line, the organization apart."""

    project: str
    cluster: str
    component: str
    start_ms: int
    end_ms: int
    revision: int
    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int
    peak_milli_vcpu: int
    sources: str  # joined by commas


class UsageRows(LazySequence[UsageRow]):
    """The rows of a month. An object for each is made only when one is looked at: drafting needs none.

    `make` gives the rows, as many and in the same order as `canonical`.
    """

    def __init__(
        self,
        organization: OrganizationId,
        canonical: Sequence[CanonicalRow],
        make: Callable[[], tuple[UsageRow, ...]],
    ) -> None:
        super().__init__(len(canonical), make)
        self.canonical = canonical
        self._organization = organization

    @classmethod
    def of(cls, organization: OrganizationId, rows: Iterable[UsageRow]) -> UsageRows:
        """From rows that are there."""
        every = tuple(rows)
        return cls(organization, [canonical_of(row) for row in every], lambda: every)

    @cached_property
    def leaves(self) -> list[bytes]:
        """The canonical lines of the rows, sorted."""
        # Sorted by component and then by line: the same, and few lines are compared that begin alike.
        in_order = sorted(self.canonical, key=_component)
        return sorted(_line(self._organization, each) for each in in_order)

    @cached_property
    def digest(self) -> str:
        """Of all rows, see `digest_of`."""
        return sha256(b"".join(self.leaves)).hexdigest()


@dataclass(frozen=True, slots=True)
class UsageMonth:
    """An organization's usage of a window, from the newest revision of each of its hours."""

    organization: OrganizationId
    window: Window
    rows: UsageRows
    step: StepFunction  # the organization's summed milli-vCPU over all clusters, from sealed rows
    observed_ms: int
    missing_ms: int
    revision_digest: str  # `digest_of(rows)`: what an invoice was computed from
    sealed: bool  # every hour of the window is sealed


@dataclass(frozen=True, slots=True)
class MeterRow:
    """What one meter measured for one set of dimensions in one hour (or the piece of it in a period), by one
    revision. `quantity` is in the meter's integer unit (times milliseconds for the integral of a gauge).
    """

    project: ProjectId
    cluster: ClusterId
    dimensions: tuple[tuple[str, str], ...]
    hour: Window
    revision: int
    quantity: int
    observed_ms: int
    missing_ms: int
    estimated_ms: int  # of `missing_ms`, what a gap policy filled in; `quantity` holds it
    sources: tuple[str, ...]
    places: str = field(default="", compare=False)  # as of a `UsageRow`, see `metering.meters.places`


@dataclass(frozen=True, slots=True)
class MeterPart:
    """The quantity of one group over a window, exact and in the meter's unit, and by hour where hours add up."""

    group: str  # a cluster or project; "" for all together
    quantity: Fraction
    hourly: tuple[Fraction, ...] = ()  # one for each hour of the window; empty for peak, percentile, unique, latest


@dataclass(frozen=True, slots=True)
class MeterUsage:
    """One meter's usage of an organization in a window, from the newest revision of each of its hours."""

    organization: OrganizationId
    meter: str
    catalogue: str  # id and version of the catalogue that defines the meter
    unit: str
    window: Window
    parts: tuple[MeterPart, ...]
    rows: Sequence[MeterRow]
    observed_ms: int
    missing_ms: int
    estimated_ms: int
    revision_digest: str
    sealed: bool
    definition: str = ""  # JSON of the meter in that catalogue
    # Where hours were computed by other definitions (`meter_of` alone says): from which hour (ms) on by which JSON.
    definitions: tuple[tuple[int, str], ...] = ()
    leaves: Sequence[bytes] = ()  # the stored rows as canonical lines, sorted: all that `parts` were made from


GapPolicy = Literal["not-billed", "hold-last", "estimate"]


@dataclass(frozen=True, slots=True)
class GapRule:
    """A policy, and for how long from its beginning a gap is filled."""

    policy: GapPolicy
    most_ms: int

    def reach(self, gap: UsageGap) -> Window | None:
        """The part of a gap that may be filled."""
        end_ms = min(gap.window.end_ms, gap.since_ms + self.most_ms)
        if self.policy == "not-billed" or end_ms <= gap.window.start_ms:
            return None
        return Window(gap.window.start_ms, end_ms)


NOT_BILLED = GapRule("not-billed", 0)


class UsageReader(Protocol):
    """Where billing gets usage from. Methods block."""

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        """The licence usage of `window`, which is cut at quarters of an hour."""

    def meter(
        self,
        organization: OrganizationId,
        meter: str,
        window: Window,
        group_by: str | None,
        gaps: GapRule = NOT_BILLED,
    ) -> MeterUsage:
        """The usage of one meter, `group_by` cluster, project or None. Raises NotFound for an unknown meter."""

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        """Whether any hour of `window` was sealed, for the first time or again, after that moment of the vendor."""


def digest_of(rows: Iterable[UsageRow]) -> str:
    """The sha256 of the rows' canonical lines, in canonical order: the same rows give the same digest."""
    return sha256(b"".join(sorted(canonical_line(row) for row in rows))).hexdigest()


def tree_root(lines: Iterable[bytes]) -> bytes:
    """The RFC 6962 root over canonical lines, sorted: what an invoice states of the rows it was made from."""
    return root_of(sorted(lines))


def canonical_line(row: UsageRow) -> bytes:
    """One row as tab-separated text that ends in a line feed; ids hold neither."""
    return _line(row.organization, canonical_of(row))


def canonical_of(row: UsageRow) -> CanonicalRow:
    """What is billed and proved of a row."""
    return CanonicalRow(
        row.project,
        row.cluster,
        row.component,
        row.hour.start_ms,
        row.hour.end_ms,
        row.revision,
        row.milli_vcpu_ms,
        row.observed_ms,
        row.missing_ms,
        row.peak_milli_vcpu,
        ",".join(row.sources),
    )


_component = itemgetter(0, 1, 2)


def _line(organization: str, row: CanonicalRow) -> bytes:
    project, cluster, component, start, end, revision, quantity, observed, missing, peak, sources = row
    return (
        f"{organization}\t{project}\t{cluster}\t{component}\t{start}\t{end}\t{revision}"
        f"\t{quantity}\t{observed}\t{missing}\t{peak}\t{sources}\n"
    ).encode()
