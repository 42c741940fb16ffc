"""What is kept of the groups of frames that collectors are sending now, so that frames pass without being opened.

A group is one segment of one lane of one collector. A lane has few groups alive at a time: the one that grows and
the one that a backlog is at. Who is forgotten here is asked for roots (409): it costs bytes, never samples. Workers
of one gateway share what they know (`shares`), since the connections of one collector end at any of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from collector.wire.frames import Body, FrameLimits, GroupGuard
from collector.wire.headers import PushHeaders
from kernel.identity import Identity
from kernel.ids import Tenant
from metering.gateway.admission import Moment
from metering.gateway.shares import GROUP_IDLE_SECONDS, GROUPS_PER_LANE, Shares


@dataclass(slots=True)
class Group:
    """One group. Who holds `turn` may check, append and apply: the log's order and the guard's must be one."""

    tenant: Tenant
    lane: str  # tenant/collector/lane
    name: str  # epoch.group
    guard: GroupGuard
    used: float
    received_ms: int  # of its last push
    version: int = 0  # of what the workers share
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Groups:
    """The guards of all tenants. On the event loop, but for what a group's turn protects."""

    def __init__(self, limits: FrameLimits, shares: Shares) -> None:
        self.limits = limits
        self._shares = shares
        self._lanes: defaultdict[str, OrderedDict[str, Group]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def group(self, identity: Identity, push: PushHeaders, number: int, moment: Moment) -> Group:
        """The group of a push, now the last used of its lane; a new one knows nothing yet.

        Readers of the log forget what rests too long by the time of receipt, so the wall clock counts here too: one
        that stepped ahead must not let a frame pass which they have no state for any more.
        """
        lane, name = f"{identity.who}/{push.lane.value}", f"{push.epoch}.{number}"
        groups = self._lanes[lane]
        group = groups.get(name)
        if group is not None and moment.now_ms - group.received_ms > GROUP_IDLE_SECONDS * 1000:
            self.forget(group)
            group = None
        group = group or Group(
            identity.tenant, lane, name, GroupGuard(self.limits), moment.monotonic, moment.now_ms
        )
        group.used, group.received_ms = moment.monotonic, moment.now_ms
        groups[name] = group
        groups.move_to_end(name)
        while len(groups) > GROUPS_PER_LANE:
            groups.popitem(last=False)
        return group

    def refresh(self, group: Group) -> None:
        """Take over what another worker has passed on since."""
        if newer := self._shares.load_group(group.lane, group.name, group.version):
            group.version, group.guard = newer

    def hold_places(self, group: Group, body: Body) -> int | None:
        """Hold a place for each series of the lane with those of `body`; None when there are, else how many lack.

        The groups of one lane hold much the same series, so the largest of them stands for the lane.
        """
        others = [one.guard.series for one in self._lanes[group.lane].values() if one is not group]
        wanted = max(group.guard.series_with(body), *others, 0)
        held = self._shares.hold(group.tenant, group.lane, wanted)
        if held >= wanted:
            return None
        self._shares.hold(group.tenant, group.lane, max(group.guard.series, *others, 0))
        return wanted - held

    def publish(self, group: Group, body: Body) -> None:
        """Tell the other workers what `body` changed. Who was slower than another forgets: roots will be asked."""
        if not any(block.is_root or block.head.changes_state for block in body.blocks):
            return
        version = self._shares.save_group(group.lane, group.name, group.version, group.guard, group.used)
        if version is None:
            self.forget(group)
        else:
            group.version = version

    def forget(self, group: Group) -> None:
        """What the log has of the group is not known any more: the collector will be asked for roots."""
        self._shares.drop_group(group.lane, group.name)
        groups = self._lanes.get(group.lane)
        if groups is not None and groups.get(group.name) is group:
            del groups[group.name]

    def forget_idle(self, now: float) -> None:
        """Drop groups that nobody has used for an hour."""
        for lane, groups in list(self._lanes.items()):
            tenants = {group.tenant for group in groups.values()}
            for name, group in list(groups.items()):
                if now - group.used > GROUP_IDLE_SECONDS:
                    del groups[name]
            if not groups:
                del self._lanes[lane]
                for tenant in tenants:
                    self._shares.leave(tenant, lane)
        self._shares.forget_idle(now)
