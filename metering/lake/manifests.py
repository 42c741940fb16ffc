"""What the manifests of the samples table say, each read once: a manifest never changes.

By organization, as that is how usage asks. pyiceberg reads every entry of every manifest for each scan, so that
looking at a thousand organizations would cost a thousand times what all their files cost.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.types import DateType, LongType

from metering.lake.errors import LakeDamaged

MOST_FILES = 500_000  # that are remembered, some 400 bytes each
_DAY, _TENANT = "day", "tenant"


class DataFile(NamedTuple):
    """A data file of samples, and what is in it."""

    location: str
    tenant: str  # organization/project
    day: int  # since 1970
    first_ms: int
    last_ms: int
    rows: int
    bytes: int

    @property
    def project(self) -> str:
        """Whose it is."""
        return self.tenant.partition("/")[2]


@dataclass(frozen=True, slots=True)
class _Manifest:
    """The live entries of one."""

    files: Mapping[str, Sequence[DataFile]]  # by organization
    count: int
    deletes: frozenset[str] = frozenset()  # organizations that it has delete files of


@dataclass
class Manifests:
    """Those read last. Threads may share it."""

    most_files: int = MOST_FILES
    _known: OrderedDict[str, _Manifest] = field(default_factory=OrderedDict)
    _lists: OrderedDict[str, Sequence[ManifestFile]] = field(default_factory=OrderedDict)
    _count: int = 0
    _lock: Lock = field(default_factory=Lock)

    def files(self, table: Table, snapshot_id: int, organization: str, days: tuple[int, int]) -> Iterator[DataFile]:
        """The data files of an organization in a snapshot, of these days (first and last, since 1970).

        Blocks. Raises LakeDamaged, and what reading a manifest raises.
        """
        first, last = days
        for manifest in self._listed(table, snapshot_id):
            if _may_hold(table, manifest, first, last):
                found = self._read(table, manifest)
                if organization in found.deletes:
                    raise LakeDamaged(
                        "the samples table carries delete files, which byoc does not read: rewrite those files"
                    )
                for one in found.files.get(organization, ()):
                    if first <= one.day <= last:
                        yield one

    @property
    def remembered(self) -> int:
        """How many data files."""
        return self._count

    def _listed(self, table: Table, snapshot_id: int) -> Sequence[ManifestFile]:
        snapshot = table.snapshot_by_id(snapshot_id)
        if snapshot is None:
            return ()
        with self._lock:
            known = self._lists.get(snapshot.manifest_list)
        if known is None:
            known = tuple(snapshot.manifests(table.io))
            with self._lock:
                self._lists[snapshot.manifest_list] = known
                while len(self._lists) > 8:
                    self._lists.popitem(last=False)
        return known

    def _read(self, table: Table, manifest: ManifestFile) -> _Manifest:
        path = manifest.manifest_path
        with self._lock:
            if path in self._known:
                self._known.move_to_end(path)
                return self._known[path]
        found = _parse(table, manifest)
        with self._lock:
            if path not in self._known:
                self._known[path] = found
                self._count += found.count
            while self._count > self.most_files and len(self._known) > 1:
                self._count -= self._known.popitem(last=False)[1].count
        return found


def _may_hold(table: Table, manifest: ManifestFile, first: int, last: int) -> bool:
    """By the days that its summary names."""
    if not manifest.partitions:
        return True
    days = manifest.partitions[_places(table, manifest)[0]]
    lower, upper = _day_of(days.lower_bound), _day_of(days.upper_bound)
    return (lower is None or lower <= last) and (upper is None or upper >= first)


def _day_of(bound: bytes | None) -> int | None:
    value: Any = None if bound is None else from_bytes(DateType(), bound)
    return None if value is None else int(value)


def _places(table: Table, manifest: ManifestFile) -> tuple[int, int]:
    """Where day and tenant stand in the partition. Raises LakeDamaged if files are not kept apart by them."""
    names = [each.name for each in table.specs()[manifest.partition_spec_id].fields]
    if _DAY not in names or _TENANT not in names:
        found = ", ".join(names) or "nothing"
        raise LakeDamaged(f"the samples table has files partitioned by {found}, not by day and tenant")
    return names.index(_DAY), names.index(_TENANT)


def _parse(table: Table, manifest: ManifestFile) -> _Manifest:
    day_at, tenant_at = _places(table, manifest)
    entries = [entry.data_file for entry in manifest.fetch_manifest_entry(table.io)]
    tenants = [str(file.partition[tenant_at]) for file in entries]
    owners = [tenant.partition("/")[0] for tenant in tenants]
    if manifest.content == ManifestContent.DELETES:
        return _Manifest({}, len(entries), frozenset(owners))
    time = table.schema().find_field("timestamp_ms").field_id
    files: dict[str, list[DataFile]] = defaultdict(list)
    for file, tenant, owner in zip(entries, tenants, owners, strict=True):
        one = DataFile(
            location=file.file_path,
            tenant=tenant,
            day=int(file.partition[day_at]),
            first_ms=_milliseconds(file.lower_bounds, time),
            last_ms=_milliseconds(file.upper_bounds, time),
            rows=file.record_count,
            bytes=file.file_size_in_bytes,
        )
        files[owner].append(one)
    return _Manifest({owner: tuple(listed) for owner, listed in files.items()}, len(entries))


def _milliseconds(bounds: Mapping[int, bytes] | None, time: int) -> int:
    if not bounds or time not in bounds:
        raise LakeDamaged("a data file of the samples table has no bounds of its times: rewrite it with them")
    value: Any = from_bytes(LongType(), bounds[time])
    return int(value)
