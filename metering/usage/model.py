"""Usage as the other components see it: sealed rows of an hour, a month of them, and the port that reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import Window


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one component of one cluster used in one hour, by one revision of that hour.

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


@dataclass(frozen=True, slots=True)
class UsageMonth:
    """An organization's usage of a window, from the newest revision of each of its hours."""

    organization: OrganizationId
    window: Window
    rows: tuple[UsageRow, ...]
    step: StepFunction  # the organization's summed milli-vCPU over all clusters, from sealed rows
    observed_ms: int
    missing_ms: int
    revision_digest: str  # `digest_of(rows)`: what an invoice was computed from
    sealed: bool  # every hour of the window is sealed


class UsageReader(Protocol):
    """Where billing gets usage from."""

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        """The usage of `window`, which may be any window that is cut at hour edges. Blocking."""


def digest_of(rows: Iterable[UsageRow]) -> str:
    """The sha256 of the rows' canonical lines, in canonical order: the same rows give the same digest."""
    digest = sha256()
    for line in sorted(canonical_line(row) for row in rows):
        digest.update(line)
    return digest.hexdigest()


def canonical_line(row: UsageRow) -> bytes:
    """One row as tab-separated text that ends in a line feed; ids hold neither."""
    fields = (
        row.organization,
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
    return ("\t".join(map(str, fields)) + "\n").encode()
