"""Records that hold frames as our collector sent them, for those who read the log.

The gateway passes frames on unopened, so that their readers keep state: one GroupReader for each group of blocks
that may still be continued. The specification is docs/wire.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from collector.wire.errors import WireError
from collector.wire.frames import FrameLimits, GroupReader, OldState, UnknownState, body_group
from collector.wire.frames import Rows as FrameRows
from kernel.errors import DeadLetter
from kernel.ids import CollectorId, Tenant
from metering.record import BatchHeader, Lane, RecordFormat

__all__ = ["FrameRows", "GroupLimits", "OldState", "SourceReaders", "UnknownState", "WireError", "vendor_labels"]

Assign = Callable[[Tenant, CollectorId, Sequence[bytes]], npt.NDArray[np.int64]]
Release = Callable[[Tenant, npt.NDArray[np.int64]], None]
_SourceKey = tuple[Tenant, CollectorId, Lane]
_GroupKey = tuple[int, int]  # epoch, group


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Which groups are alive. A gateway keeps three for an hour, and there are several gateways: here more are kept
    for longer, so that what any of them lets through can be read.
    """

    groups: int = 8  # of one collector's lane, the last ones by use
    idle_ms: int = 2 * 3_600_000  # of the time of receipt
    slots: int = 20_000_000  # of all readers together; beyond it the groups that rested longest go


@dataclass(slots=True)
class _Group:
    reader: GroupReader
    first: int  # offset of the first record of the group
    received_ms: int  # of the last record


class SourceReaders:
    """The state of all frames in one partition of the log. Not safe for concurrent use.

    `assign(tenant, collector, labels)` numbers series by their canonical labels, with the tenant's own labels in;
    `release(tenant, numbers)` hears of numbers that are not in use any more, once for each time they were given.
    Which groups are alive follows from the records alone, so a reader that starts again at `replay_from` agrees.
    """

    def __init__(
        self,
        assign: Assign,
        *,
        release: Release | None = None,
        limits: GroupLimits | None = None,
        frames: FrameLimits | None = None,
    ) -> None:
        self._assign = assign
        self._release = release
        self._limits = limits or GroupLimits()
        self._frames = frames or FrameLimits()
        self._sources: dict[_SourceKey, OrderedDict[_GroupKey, _Group]] = {}
        self._received_ms = 0
        self._swept_ms = 0
        self._slots = 0

    @property
    def slots(self) -> int:
        """Slots of all streams, about 60 bytes of memory each."""
        return self._slots

    def read(self, header: BatchHeader, value: bytes, offset: int) -> list[FrameRows]:
        """The samples of a record; `offset` is its own. Its state is taken in, as far as possible also on an error.

        Raises UnknownState (the record builds on what was not read), WireError and DeadLetter (it is malformed).
        """
        return self._read(header, value, offset, samples=True)

    def replay(self, header: BatchHeader, value: bytes, offset: int) -> None:
        """Take in the state of a record whose samples are not wanted: a repeat, a resync, one before the start.

        What can't be read is passed over: whoever builds on it is told so. Records of samples have no state.
        """
        if header.format is not RecordFormat.FRAMES:
            return
        try:
            self._read(header, value, offset, samples=False)
        except (UnknownState, WireError, DeadLetter):
            return

    def replay_from(self, following: int) -> int:
        """Where to begin reading so as to know all that a record from offset `following` on may build on."""
        self._sweep()
        firsts = (group.first for groups in self._sources.values() for group in groups.values())
        return min(firsts, default=following)

    def _read(self, header: BatchHeader, value: bytes, offset: int, *, samples: bool) -> list[FrameRows]:
        if header.sequence is None:
            raise DeadLetter("a record of frames without a sequence")
        key = (header.sequence.epoch, body_group(value))
        source = header.tenant, header.collector, header.lane
        group = self._group(source, key, offset)
        group.received_ms = max(group.received_ms, header.received_ms)
        self._received_ms = max(self._received_ms, header.received_ms)
        before = group.reader.slots
        try:
            return group.reader.read(value, samples=samples, elder=self._elder(source))
        finally:
            self._slots += group.reader.slots - before
            self._limit(source, key)

    def _elder(self, source: _SourceKey) -> GroupReader | None:
        """The group that was read before the one that is read now; most of its series come again."""
        latest = list(islice(reversed(self._sources[source].values()), 2))
        return latest[1].reader if self._release is None and len(latest) > 1 else None

    def _group(self, source: _SourceKey, key: _GroupKey, offset: int) -> _Group:
        groups = self._sources.setdefault(source, OrderedDict())
        group = groups.get(key)
        if group is None:
            tenant, collector, _ = source

            def number(entries: Sequence[bytes]) -> npt.NDArray[np.int64]:
                return self._assign(tenant, collector, [vendor_labels(entry, tenant) for entry in entries])

            release = None if self._release is None else partial(self._release, tenant)
            reader = GroupReader(number, release=release, keep_entries=False, limits=self._frames)
            group = groups[key] = _Group(reader, offset, 0)
        groups.move_to_end(key)
        return group

    def _limit(self, source: _SourceKey, key: _GroupKey) -> None:
        groups = self._sources[source]
        while len(groups) > self._limits.groups:
            self._drop(source, next(iter(groups)))
        if self._received_ms - self._swept_ms > self._limits.idle_ms // 16:
            self._sweep()
        while self._slots > self._limits.slots:
            resting = [
                (group.received_ms, group.first, one, each)
                for one, alive in self._sources.items()
                for each, group in alive.items()
                if (one, each) != (source, key)
            ]
            if not resting:
                return
            _, _, one, each = min(resting, key=lambda found: found[:2])
            self._drop(one, each)

    def _sweep(self) -> None:
        """Drop what has rested too long, by the newest time of receipt in the partition."""
        self._swept_ms = self._received_ms
        oldest = self._received_ms - self._limits.idle_ms
        for source, groups in list(self._sources.items()):
            for key in [key for key, group in groups.items() if group.received_ms < oldest]:
                self._drop(source, key)

    def _drop(self, source: _SourceKey, key: _GroupKey) -> None:
        groups = self._sources[source]
        reader = groups.pop(key).reader
        self._slots -= reader.slots
        reader.close()
        if not groups:
            del self._sources[source]


def vendor_labels(entry: bytes, tenant: Tenant) -> bytes:
    """The canonical labels of an entry (type, then labels) in the tenant's name, whatever the entry says of it."""
    parts = entry[1:-1].split(b"\xff")
    labels = dict(zip(parts[::2], parts[1::2], strict=True))
    labels[b"organization"] = tenant.organization.encode()
    labels[b"project"] = tenant.project.encode()
    return b"".join([name + b"\xff" + labels[name] + b"\xff" for name in sorted(labels)])
