"""A target whose series come and go, its encoder, and what a reader has to give back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from collector.native import encode_cell
from collector.wire.frames import (
    STALE_NAN_BITS,
    Block,
    Dated,
    EntryTable,
    ExemplarRow,
    FamilyMetadata,
    GroupReader,
    HistogramRow,
    Rows,
    Starts,
    StreamEncoder,
    Tick,
    join_blocks,
)
from collector.wire.frames.encode import VERSION_STEP

Sample = tuple[bytes, int, int]  # entry, timestamp ms, the value's bits


def entry(name: str, kind: int = 1, **labels: str) -> bytes:
    """An entry as the collector makes it."""
    pairs = sorted({"__name__": name, **labels}.items())
    return bytes((kind,)) + b"".join(key.encode() + b"\xff" + value.encode() + b"\xff" for key, value in pairs)


def bits(value: float) -> int:
    """The bits of a float64."""
    return int(np.float64(value).view(np.uint64))


def from_bits(number: int) -> float:
    """The float64 with these bits."""
    return float(np.uint64(number).view(np.float64))


class TwinEncoder(StreamEncoder):
    """An encoder by numpy, and, where there is a kernel, one by that: what they make is the same."""

    _drawn = itertools.count(VERSION_STEP, VERSION_STEP)  # as all encoders of a process, if there is none given

    def __init__(self, stream: int, table: EntryTable, keyframe_every: int, versions: Iterator[int] | None) -> None:
        ours, theirs = itertools.tee(self._drawn if versions is None else versions)
        super().__init__(stream, table, keyframe_every=keyframe_every, versions=ours)
        self._twin = StreamEncoder(stream, table, keyframe_every=keyframe_every, versions=theirs, coder=encode_cell)

    def reset(self) -> None:
        super().reset()
        self._twin.reset()

    def encode(self, tick: Tick, group: int) -> list[Block]:
        blocks = super().encode(tick, group)
        assert self._twin.encode(tick, group) == blocks
        return blocks


@dataclass
class Target:
    """One stream: series by entry, their slots, and the encoder. `scrape` makes a tick and says what it holds."""

    stream: int = 1
    keyframe_every: int = 3
    versions: Iterator[int] | None = None
    table: EntryTable = field(default_factory=EntryTable)
    slots: dict[bytes, int] = field(default_factory=dict)
    now_ms: int = 1_700_000_000_000
    encoder: StreamEncoder = field(init=False)

    def __post_init__(self) -> None:
        self.encoder = TwinEncoder(self.stream, self.table, self.keyframe_every, self.versions)

    def scrape(
        self,
        values: dict[bytes, float],
        *,
        dated: Sequence[tuple[bytes, int, float]] = (),
        histograms: Sequence[tuple[bytes, bytes]] = (),
        exemplars: Sequence[tuple[bytes, float, int, bytes]] = (),
        starts: dict[bytes, int] | None = None,
        metadata: Sequence[FamilyMetadata] = (),
        kept: Iterable[bytes] = (),
    ) -> tuple[Tick, list[Sample]]:
        """A tick with these values. Series that it doesn't name go, with a stale marker, except those in `kept`."""
        self.now_ms += 1000
        named = {*values, *(row[0] for row in dated), *(row[0] for row in histograms), *kept}
        gone = [one for one in self.slots if one not in named]
        stale = np.array([self.slots[one] for one in gone], np.int32)
        samples = [(one, self.now_ms, STALE_NAN_BITS) for one in gone]
        self.table.free(stale)
        for one in gone:
            del self.slots[one]
        new = [one for one in sorted(named) if one not in self.slots]
        born = self.table.take(new)
        self.slots.update(zip(new, born.tolist(), strict=True))
        tick = self._tick(values, stale, born, dated, histograms, exemplars)
        if starts:
            began = sorted((self.slots[one], start) for one, start in starts.items())
            tick.starts = Starts(
                np.array([slot for slot, _ in began], np.int32), np.array([start for _, start in began], np.int64)
            )
        tick.metadata = metadata
        samples += [(one, self.now_ms, bits(value)) for one, value in values.items()]
        samples += [(one, time, bits(value)) for one, time, value in dated]
        return tick, samples

    def _tick(
        self,
        values: dict[bytes, float],
        stale: npt.NDArray[np.int32],
        born: npt.NDArray[np.int32],
        dated: Sequence[tuple[bytes, int, float]],
        histograms: Sequence[tuple[bytes, bytes]],
        exemplars: Sequence[tuple[bytes, float, int, bytes]],
    ) -> Tick:
        column = np.full(self.table.capacity, 0xDEADBEEF, np.float64)
        present = np.zeros(self.table.capacity, np.bool_)
        for one, value in values.items():
            column[self.slots[one]] = value
            present[self.slots[one]] = True
        rows = None
        if dated:
            rows = Dated(
                np.array([self.slots[one] for one, _, _ in dated], np.int32),
                np.array([time for _, time, _ in dated], np.int64),
                np.array([value for _, _, value in dated]),
            )
        return Tick(
            self.now_ms,
            column,
            None if len(values) == len(self.slots) else present,
            stale,
            stale.copy(),
            born,
            rows,
            [HistogramRow(self.slots[one], message) for one, message in histograms],
            [ExemplarRow(self.slots[one], value, time, labels) for one, value, time, labels in exemplars],
        )

    def fail(self) -> tuple[Tick, list[Sample]]:
        """A failed scrape: a stale marker for each series; all of them stay."""
        self.now_ms += 1000
        slots = np.array(list(self.slots.values()), np.int32)
        none = np.empty(0, np.int32)
        absent = np.zeros(self.table.capacity, np.bool_)
        tick = Tick(self.now_ms, np.zeros(self.table.capacity), absent, slots, none, none)
        return tick, [(one, self.now_ms, STALE_NAN_BITS) for one in self.slots]


@dataclass
class Numbers:
    """Numbers entries from 0, and knows which is which."""

    entries: list[bytes] = field(default_factory=list)
    known: dict[bytes, int] = field(default_factory=dict)

    def assign(self, entries: Sequence[bytes]) -> npt.NDArray[np.int64]:
        for one in entries:
            if one not in self.known:
                self.known[one] = len(self.entries)
                self.entries.append(one)
        return np.array([self.known[one] for one in entries], np.int64)

    def samples(self, rows: Iterable[Rows]) -> list[Sample]:
        """What the rows hold, sorted."""
        found: list[Sample] = []
        for one in rows:
            names = [self.entries[number] for number in one.series.tolist()]
            found += zip(names, one.timestamps_ms.tolist(), one.values.view(np.uint64).tolist(), strict=True)
        return sorted(found)


def bodies(group: int, blocks: Sequence[Block]) -> list[bytes]:
    """Each block in a body of its own, so that a reader is tested between any two."""
    return [join_blocks(group, [block]) for block in blocks]


def reader() -> tuple[GroupReader, Numbers]:
    """A fresh reader and its numbers."""
    numbers = Numbers()
    return GroupReader(numbers.assign), numbers


def counting() -> Iterator[int]:
    """Versions for an encoder whose bytes must not depend on what ran before."""
    return itertools.count(1024, 1024)
