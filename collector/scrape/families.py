"""What is told of metric families beside their series: type, unit, and the HELP text if the policy lets it out.

A family is told of when a series leaves whose name shows the family's: one that was renamed does not say what its
family is called inside. A unit leaves if the family's name ends with it, so it says nothing more. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from collector.exposition import MetricType, Reading
from collector.exposition.columns import MOST_TOLD, Declared, names_of
from collector.labels import METRIC_NAME
from collector.policy import Policy
from collector.scrape.plan import LanePlan
from collector.scrape.series import TYPE_BYTES, labels_of
from collector.scrape.stream import Stream
from collector.wire.frames import FamilyMetadata
from collector.wire.frames.metadata import MAX_NAME_BYTES, cut_help

Listed = tuple[str, str]  # family, and what the ledger lists


@dataclass(slots=True)
class _Last:
    """What was told last in a lane, and of what. `listed`: whether the ledger has it."""

    declared: Declared = field(default_factory=Declared)
    facts: object = None
    told: Sequence[FamilyMetadata] = ()
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class FamilyNames:
    """By number. `veiled`: those of which a series left with a pseudonym, which a text could lift."""

    names: Sequence[str]
    veiled: Container[int]
    veiled_count: int


class FamilyTexts:
    """What the lanes of one target tell of families."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._last = [_Last() for _ in streams]

    def told(
        self, lane: int, ours: LanePlan, reading: Reading, families: FamilyNames, policy: Policy
    ) -> Sequence[FamilyMetadata]:
        """Of all families of a lane's rows; the same object as long as nothing changes."""
        last = self._last[lane]
        facts = frozenset(ours.counts), len(ours.dated_slots) > 0, policy.version, families.veiled_count
        if facts == last.facts and (reading.declared is last.declared or reading.declared == last.declared):
            return last.told
        found = list(self._made(self._streams[lane], ours, reading.declared, families, policy))[:MOST_TOLD]
        told = last.told if found == last.told else found
        self._last[lane] = _Last(reading.declared, facts, told, last.is_listed and told is last.told)
        return told

    def unlisted(self, lane: int) -> list[Listed]:
        """The HELP texts that left, for the ledger, as often as it was not told that it has them."""
        last = self._last[lane]
        if last.is_listed:
            return []
        return [(one.family, f"# HELP {one.family} {one.help}") for one in last.told if one.help]

    def listed(self, lane: int) -> None:
        """The ledger has them."""
        self._last[lane].is_listed = True

    def _made(
        self, stream: Stream, ours: LanePlan, declared: Declared, families: FamilyNames, policy: Policy
    ) -> Iterator[FamilyMetadata]:
        for number, name in _samples(stream, ours):
            family = families.names[number]
            if name not in names_of(family) or len(family.encode()) > MAX_NAME_BYTES:
                continue
            kind = TYPE_BYTES[declared.types.get(family, MetricType.UNKNOWN)][0]
            unit, text = declared.units.get(family, ""), declared.helps.get(family, "")
            if not family.endswith(f"_{unit}"):
                unit = ""
            if number in families.veiled or not policy.tells_help(family):
                text = ""
            if kind or unit or text:
                yield FamilyMetadata(family, kind, unit, cut_help(text))


def _samples(stream: Stream, ours: LanePlan) -> Iterable[tuple[int, str]]:
    """The number of each family of a lane, and the name that one of its series leaves with."""
    slots = np.concatenate([ours.slots, ours.dated_slots])
    if not len(slots):
        return ()
    numbers = stream.families[slots]
    slot_of = np.full(int(numbers.max()) + 1, -1, np.int32)
    slot_of[numbers] = slots
    found = np.flatnonzero(slot_of >= 0)
    entries = stream.table.entries(slot_of[found])
    return zip(found.tolist(), map(_name_of, entries), strict=True)


def _name_of(entry: bytes) -> str:
    labels: Mapping[str, str] = dict(labels_of(entry))
    return labels.get(METRIC_NAME, "")
