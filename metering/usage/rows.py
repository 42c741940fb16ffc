"""Rows of sealed hours: what each component used, its canonical line, and all of a month together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.lazy import LazySequence
from kernel.merkle import root_of
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


class ClusterSums(NamedTuple):
    """What the rows of one cluster add up to."""

    project: str
    cluster: str
    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int


@dataclass(frozen=True, slots=True)
class RowSums:
    """What a document states of its rows."""

    rows: int
    hours: int  # that have any
    clusters: tuple[ClusterSums, ...]  # in order of project and cluster

    @property
    def observed_ms(self) -> int:
        return sum(each.observed_ms for each in self.clusters)

    @property
    def missing_ms(self) -> int:
        return sum(each.missing_ms for each in self.clusters)


class UsageRows(LazySequence[UsageRow]):
    """The rows of a month. What is billed and proved of them, and an object for each, are made when looked at.

    `canonical` and `make` give `count`, in the same order; `sums` is what they add up to, and `proof`
    their digest and root, where these are known.
    """

    def __init__(
        self,
        organization: OrganizationId,
        count: int,
        canonical: Callable[[], Sequence[CanonicalRow]],
        make: Callable[[], tuple[UsageRow, ...]],
        sums: RowSums | None = None,
        proof: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(count, make)
        self._organization = organization
        self._canonical = canonical
        self._sums = sums
        self._proof = proof

    @classmethod
    def of(cls, organization: OrganizationId, rows: Iterable[UsageRow]) -> UsageRows:
        """From rows that are there."""
        every = tuple(rows)
        return cls(organization, len(every), lambda: [canonical_of(row) for row in every], lambda: every)

    @cached_property
    def canonical(self) -> Sequence[CanonicalRow]:
        """What is billed and proved of each."""
        return self._canonical()

    @cached_property
    def leaves(self) -> list[bytes]:
        """The canonical lines of the rows, sorted."""
        # Sorted by component and then by line: the same, and few lines are compared that begin alike.
        in_order = sorted(self.canonical, key=_component)
        return sorted([_line(self._organization, each) for each in in_order])

    @cached_property
    def sums(self) -> RowSums:
        """What they add up to."""
        return self._sums or RowSums(
            rows=len(self.canonical),
            hours=len({row.start_ms for row in self.canonical}),
            clusters=_clusters(self.canonical),
        )

    @cached_property
    def digest(self) -> str:
        """Of all rows, see `digest_of`."""
        return self._proof[0] if self._proof else sha256(b"".join(self.leaves)).hexdigest()

    @cached_property
    def root(self) -> str:
        """Of `tree_root`, in hexadecimal."""
        return self._proof[1] if self._proof else tree_root(self.leaves).hex()


def digest_of(rows: Iterable[UsageRow]) -> str:
    """The sha256 of the rows' canonical lines, in canonical order: the same rows give the same digest."""
    return sha256(b"".join(sorted(canonical_line(row) for row in rows))).hexdigest()


def tree_root(lines: Iterable[bytes]) -> bytes:
    """The RFC 6962 root over canonical lines, sorted: what an invoice states of the rows it was made from."""
    return root_of(sorted(lines))


class Leaves(LazySequence[bytes]):
    """Canonical lines, sorted, and the root over them."""

    def __init__(self, count: int, make: Callable[[], tuple[bytes, ...]], root: str | None = None) -> None:
        super().__init__(count, make)
        self._root = root

    @cached_property
    def root(self) -> str:
        """Of `tree_root`, in hexadecimal."""
        return self._root or tree_root(self).hex()


NO_LEAVES = Leaves(0, tuple)


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


def _clusters(rows: Iterable[CanonicalRow]) -> tuple[ClusterSums, ...]:
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        of_cluster = sums[row.project, row.cluster]
        of_cluster[0] += row.milli_vcpu_ms
        of_cluster[1] += row.observed_ms
        of_cluster[2] += row.missing_ms
    return tuple(ClusterSums(*key, *of_cluster) for key, of_cluster in sorted(sums.items()))


_component = itemgetter(0, 1, 2)


def _line(organization: str, row: CanonicalRow) -> bytes:
    project, cluster, component, start, end, revision, quantity, observed, missing, peak, sources = row
    return (
        f"{organization}\t{project}\t{cluster}\t{component}\t{start}\t{end}\t{revision}"
        f"\t{quantity}\t{observed}\t{missing}\t{peak}\t{sources}\n"
    ).encode()
