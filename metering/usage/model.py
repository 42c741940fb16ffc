"""Usage as the other components see it: sealed rows of an hour, a month of them, and the port that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import Window
from metering.usage.rows import NO_LEAVES, Leaves, UsageGap, UsageRows


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
    hourly: Sequence[Fraction] = ()  # one for each hour of the window; empty for peak, percentile, unique, latest


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
    leaves: Leaves = NO_LEAVES  # the stored rows as canonical lines, sorted: all that `parts` were made from


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


@dataclass(frozen=True, slots=True)
class MeterRequest:
    """What is asked for. `group_by`: cluster, project or None; `gaps`: what missing time of a gauge counts as."""

    organization: OrganizationId
    meter: str
    window: Window
    group_by: str | None
    gaps: GapRule = NOT_BILLED


class UsageReader(Protocol):
    """Where billing gets usage from. Methods block."""

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        """The licence usage of `window`, which is cut at quarters of an hour."""

    def metered(self, requests: Sequence[MeterRequest]) -> list[MeterUsage]:
        """The usage of meters of one organization, in the order of the requests.

        Raises NotFound for an unknown meter.
        """

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        """Whether any hour of `window` was sealed, for the first time or again, after that moment of the vendor."""
