"""Sums of what left: of one entry while it is open, of an hour, of a day. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_FAMILIES = 20_000
OTHER_FAMILIES = "(other families)"
MAX_EVENTS = 1000  # of policy changes, gaps and so on that a sum keeps
Ranges = list[list[int]]  # [first, last], ascending, apart


@dataclass(slots=True)
class LaneSum:
    """Frames of one lane in one epoch. `bytes` as sent, compressed."""

    ranges: Ranges = field(default_factory=list)
    frames: int = 0
    samples: int = 0
    bytes: int = 0

    def merge(self, other: LaneSum) -> None:
        for first, last in other.ranges:
            add_range(self.ranges, first, last)
        self.frames += other.frames
        self.samples += other.samples
        self.bytes += other.bytes


class SentFrame(NamedTuple):
    """A frame as it went to a receiver of `remote_write`: `size` bytes as sent, `meta` a FrameMeta or empty."""

    epoch: int
    sequence: int
    samples: int
    meta: bytes
    size: int


@dataclass(slots=True)
class ReceiverSum:
    """What went to one receiver: `families` as in `Sum`, here by metric name."""

    frames: int = 0
    samples: int = 0
    bytes: int = 0
    families: dict[str, list[int]] = field(default_factory=dict)

    def merge(self, other: ReceiverSum) -> None:
        self.frames += other.frames
        self.samples += other.samples
        self.bytes += other.bytes
        add_families(self.families, other.families)

    def render(self) -> dict[str, Any]:
        return {"frames": self.frames, "samples": self.samples, "bytes": self.bytes, "families": self.families}

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> ReceiverSum:
        families = {name: [int(samples), int(size)] for name, (samples, size) in fields["families"].items()}
        frames, samples, size = map(int, _three(fields))
        return cls(frames, samples, size, families)


@dataclass(slots=True)
class Sum:
    """`families`: name -> [samples, bytes before compression]; `new`: series listed, `unlisted`: only counted."""

    from_ms: int
    to_ms: int
    families: dict[str, list[int]] = field(default_factory=dict)
    lanes: dict[str, dict[int, LaneSum]] = field(default_factory=dict)
    new: int = 0
    new_digest: str = ""
    unlisted: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    events_omitted: int = 0
    receivers: dict[str, ReceiverSum] = field(default_factory=dict)

    def lane(self, name: str, epoch: int) -> LaneSum:
        """The sum of this lane and epoch, made if need be."""
        return self.lanes.setdefault(name, {}).setdefault(epoch, LaneSum())

    def add_families(self, families: Mapping[str, tuple[int, int]] | Mapping[str, list[int]]) -> None:
        """Count families; over the bound they are one."""
        add_families(self.families, families)

    def receiver(self, name: str) -> ReceiverSum:
        """The sum of this receiver, made if need be."""
        return self.receivers.setdefault(name, ReceiverSum())

    def merge(self, other: Sum) -> None:
        """Add another; `new_digest` is the caller's to make."""
        self.from_ms, self.to_ms = min(self.from_ms, other.from_ms), max(self.to_ms, other.to_ms)
        self.add_families(other.families)
        for name, epochs in other.lanes.items():
            for epoch, lane in epochs.items():
                self.lane(name, epoch).merge(lane)
        self.new += other.new
        self.unlisted += other.unlisted
        self.add_events(other.events)
        self.events_omitted += other.events_omitted
        for name, receiver in other.receivers.items():
            self.receiver(name).merge(receiver)

    def add_events(self, events: Iterable[dict[str, Any]]) -> None:
        """Keep events up to the bound, then count them."""
        for event in events:
            if len(self.events) < MAX_EVENTS:
                self.events.append(event)
            else:
                self.events_omitted += 1

    def render(self) -> dict[str, Any]:
        """As values for canonical JSON."""
        fields: dict[str, Any] = {
            "from_ms": self.from_ms,
            "to_ms": self.to_ms,
            "families": self.families,
            "lanes": {
                name: {
                    str(epoch): {
                        "ranges": one.ranges,
                        "frames": one.frames,
                        "samples": one.samples,
                        "bytes": one.bytes,
                    }
                    for epoch, one in epochs.items()
                }
                for name, epochs in self.lanes.items()
            },
            "new": {"count": self.new, "sha256": self.new_digest},
            "unlisted": self.unlisted,
        }
        if self.events or self.events_omitted:
            fields["events"], fields["events_omitted"] = self.events, self.events_omitted
        if self.receivers:
            fields["receivers"] = {name: one.render() for name, one in self.receivers.items()}
        return fields

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Sum:
        """The inverse of `render`. Raises KeyError, TypeError, ValueError."""
        lanes = {
            name: {
                int(epoch): LaneSum([list(map(int, one)) for one in each["ranges"]], *map(int, _three(each)))
                for epoch, each in epochs.items()
            }
            for name, epochs in fields["lanes"].items()
        }
        return cls(
            int(fields["from_ms"]),
            int(fields["to_ms"]),
            {name: [int(samples), int(size)] for name, (samples, size) in fields["families"].items()},
            lanes,
            int(fields["new"]["count"]),
            str(fields["new"]["sha256"]),
            int(fields["unlisted"]),
            list(fields.get("events", ())),
            int(fields.get("events_omitted", 0)),
            {name: ReceiverSum.parse(one) for name, one in fields.get("receivers", {}).items()},
        )


def add_families(
    own: dict[str, list[int]], families: Mapping[str, tuple[int, int]] | Mapping[str, list[int]]
) -> None:
    """Count families, in place; over the bound they are one."""
    for name, (samples, size) in families.items():
        known = own.get(name)
        if known is None and len(own) >= MAX_FAMILIES:
            name = OTHER_FAMILIES
            known = own.get(name)
        if known is None:
            own[name] = [samples, size]
        else:
            known[0] += samples
            known[1] += size


def _three(fields: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return fields["frames"], fields["samples"], fields["bytes"]


def add_range(ranges: Ranges, first: int, last: int) -> None:
    """Add the sequences `first` to `last`, in place. Most come at the end."""
    if ranges and ranges[-1][0] <= first <= ranges[-1][1] + 1:
        ranges[-1][1] = max(ranges[-1][1], last)
        return
    ranges.append([first, last])
    if len(ranges) > 1 and first <= ranges[-2][1] + 1:
        ranges.sort()
        merged = [ranges[0]]
        for one in ranges[1:]:
            if one[0] <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], one[1])
            else:
                merged.append(one)
        ranges[:] = merged


def has(ranges: Ranges, sequence: int) -> bool:
    """Whether the sequence is in one of the ranges."""
    return any(first <= sequence <= last for first, last in reversed(ranges))


def bound(ranges: Ranges, most: int) -> None:
    """Close the lowest holes until there are at most `most` ranges: what is missing there will not come now."""
    while len(ranges) > most:
        ranges[0:2] = [[ranges[0][0], ranges[1][1]]]
