"""Scrapes of one stream, encoded into blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from collector.wire.distinct import distinct, is_among
from collector.wire.frames.body import ABSENT, COLUMNS, EXTRAS, KEYFRAME
from collector.wire.frames.cells import CellCoder, Column, column_of, present_slots
from collector.wire.frames.extras import NO_SLOTS, Extras, portions, render_extras
from collector.wire.frames.layout import Compressor
from collector.wire.frames.metadata import MetadataSent
from collector.wire.frames.mirror import Mirror, Piece
from collector.wire.frames.model import (
    CELL,
    MAX_AT_MS,
    MAX_BLOCK_BYTES,
    MAX_FAMILIES,
    Block,
    Bools,
    Floats,
    Integers,
    Slots,
    Tick,
)
from collector.wire.frames.sections import Patch, render_columns
from collector.wire.frames.starts import StartsSent
from collector.wire.frames.table import EntryTable
from collector.wire.frames.values import (
    BITS,
    Classes,
    classify,
    encode_bases,
    grown,
)

VERSION_STEP = 1024  # between two states of an encoder; roots for a resync use the numbers between
_PATCH_SLOTS = 16_384  # born in one block
_STALE_SLOTS = 131_072  # in one block

# One count for the whole process, so that versions grow also when a target's encoder is made anew.
_versions = itertools.count(VERSION_STEP, VERSION_STEP)


class StreamEncoder:
    """What the receiver knows of one stream. `stream` (u32) is its number, unique within the lane's group.

    A tick that doesn't account for the table (a slot that changed without being in `freed` or `born`) makes a root.
    `versions` gives ever growing multiples of VERSION_STEP; the default is one count for the process. `coder` codes
    values as numpy does without it.
    """

    def __init__(
        self,
        stream: int,
        table: EntryTable,
        *,
        keyframe_every: int = 6,
        level: int = 1,
        versions: Iterator[int] | None = None,
        coder: CellCoder | None = None,
    ) -> None:
        self._stream = stream
        self._table = table
        self._keyframe_every = keyframe_every
        self._compressor = Compressor(level)
        self._versions = _versions if versions is None else versions
        self._coder = coder
        self._group: int | None = None
        self._least: Classes = np.zeros(0, np.uint8)  # the decimals that a slot's values needed so far
        self._mirror = Mirror(stream, self._compressor)
        self._starts = StartsSent()
        self._metadata = MetadataSent()
        self._ticks = 0

    def reset(self) -> None:
        """A block was not stored: the next tick begins with a root."""
        self._group = None

    def encode(self, tick: Tick, group: int) -> list[Block]:
        """The blocks of one scrape, in their order, to be stored in `group`; a root when the group is another one.

        All of them must be stored, else call `reset`. The same tick may be encoded again for a later group. A tick
        without a value or a change gives no block. ValueError for a time before 1970, or after 287,000.
        """
        if not 0 <= tick.at_ms <= MAX_AT_MS:
            raise ValueError(f"a scrape at {tick.at_ms} ms can't be sent")
        live = self._table.live()
        stale, freed, born = _ascending(tick.stale), _ascending(tick.freed), _ascending(tick.born)
        self._least = grown(self._least, len(live))
        self._least[born] = 0
        blocks: list[Block] = []
        if group != self._group or not self._accounts(live, freed, born):
            self._mirror = Mirror(self._stream, self._compressor)
            self._starts, self._metadata = StartsSent(), MetadataSent()
            self._ticks = 0
            if len(stale):
                departed = self._departed(live, born, stale)
                blocks = self._restore(tick, live, born, departed)
                freed = np.fromiter(departed, np.int64, len(departed))
            else:
                freed, born = NO_SLOTS, np.flatnonzero(live)
        if len(stale):
            known = self._mirror.live
            stale = stale[stale < len(known)]
            stale = stale[known[stale]]
        blocks += self._blocks(tick, stale, freed, born)
        self._group = group if self._mirror.version else None
        self._ticks += 1
        self._table.settle()
        return blocks

    def _accounts(self, live: Bools, freed: Integers, born: Integers) -> bool:
        """Whether `freed` and `born` lead from what the receiver knows to the table, as far as counting shows."""
        known = self._mirror.live
        if self._mirror.series - len(freed) + len(born) != len(self._table):
            return False
        if not len(freed) and not len(born):
            return True
        return bool((freed < len(known)).all() and known[freed].all() and live[born].all())

    def _departed(self, live: Bools, born: Integers, stale: Integers) -> dict[int, bytes]:
        """The entries of stale slots that the table freed in this tick; some are in use again."""
        was_live = live.copy()
        was_live[born] = False
        found = ((slot, self._table.departed(slot)) for slot in stale[~was_live[stale]].tolist())
        return {slot: entry for slot, entry in found if entry is not None}

    def _restore(self, tick: Tick, live: Bools, born: Integers, departed: dict[int, bytes]) -> list[Block]:
        """A root of the mapping before the tick, which its stale markers are of."""
        kept = live.copy()
        kept[born] = False
        gone = np.fromiter(departed, np.int64, len(departed))
        slots = np.sort(np.concatenate([np.flatnonzero(kept), gone]))
        values = np.zeros(len(slots))
        values[kept[slots]] = _first_values(tick, slots[kept[slots]])

        def entries(some: Integers) -> list[bytes]:
            here = iter(self._table.entries(some[kept[some]]))
            return [departed[slot] if slot in departed else next(here) for slot in some.tolist()]

        return self._seal(self._patch(NO_SLOTS, slots, entries, values), tick)

    def _blocks(self, tick: Tick, stale: Integers, freed: Integers, born: Integers) -> list[Block]:
        before = [Extras(stale[start : start + _STALE_SLOTS]) for start in range(0, len(stale), _STALE_SLOTS)]
        changes: list[Piece] = []
        if len(freed) or len(born):
            changes = self._patch(freed, born, self._table.entries, _first_values(tick, born))
        pieces = changes + [
            piece for cell in range(-(-self._table.capacity // CELL)) for piece in self._column(tick, cell)
        ]
        self._starts.forget(born)
        after = [*portions(tick), *self._news(tick)]
        if max(len(before), len(changes), len(pieces) - len(changes), len(after)) <= 1:
            whole = [*pieces, *([self._extras(Extras.joined([*before, *after]), tick)] if before or after else [])]
            if sum(map(len, whole)) < MAX_BLOCK_BYTES - 1000:
                for piece in whole[1:]:
                    whole[0].add(piece)
                return self._seal(whole[:1], tick)
        ends = [[self._extras(one, tick) for one in extras] for extras in (before, after)]
        return self._seal([*ends[0], *pieces, *ends[1]], tick)

    def _news(self, tick: Tick) -> Iterator[Extras]:
        """What is told once and holds until it changes."""
        starts = self._starts.changed(tick.starts)
        metadata = tick.metadata if self._mirror.series else ()  # without series there is no root to go with
        for begun, told in itertools.zip_longest(starts, self._metadata.changed(metadata, MAX_FAMILIES)):
            yield Extras(starts=begun, metadata=told or ())

    def _seal(self, pieces: list[Piece], tick: Tick) -> list[Block]:
        return [self._mirror.seal(piece, tick.at_ms, self._versions) for piece in pieces]

    def _patch(
        self, freed: Integers, born: Integers, entries: Callable[[Integers], list[bytes]], values: Floats
    ) -> list[Piece]:
        classes, coded = classify(values, self._least[born])
        self._learn(born, classes)
        pieces: list[Piece] = []
        for start in range(0, max(1, len(born)), _PATCH_SLOTS):  # so that few entries are objects at a time
            part = slice(start, start + _PATCH_SLOTS)
            patch = Patch(freed, born[part], entries(born[part]), classes[part], coded[part])
            pieces += self._mirror.change(patch)
            freed = NO_SLOTS
        return pieces

    def _learn(self, slots: Integers, classes: Classes) -> None:
        is_known = classes != BITS
        self._least[slots[is_known]] = classes[is_known]

    def _column(self, tick: Tick, cell: int) -> list[Piece]:
        flags = COLUMNS
        is_due = self._ticks and (self._ticks + cell) % self._keyframe_every == 0
        column = None if is_due else self._against_bases(tick, cell)
        if column is None:
            flags |= KEYFRAME
            column = self._keyframe(tick, cell)
        if not column.samples:
            return []
        flags |= 0 if column.bitmap is None else ABSENT
        section = self._compressor.section(render_columns(cell, column.bitmap, column.values))
        return [Piece(flags, columns=section, samples=column.samples)]

    def _against_bases(self, tick: Tick, cell: int) -> Column | None:
        """None: so many values don't fit their class that new bases are cheaper."""
        column = column_of(self._mirror, tick, cell, self._coder)
        slots = column.exceptions
        if len(slots):
            self._learn(slots, classify(tick.values[slots], self._least[slots])[0])
        return column if column.is_worth_it else None

    def _keyframe(self, tick: Tick, cell: int) -> Column:
        slots, bitmap = present_slots(self._mirror, tick, cell)
        classes, coded = classify(tick.values[slots], self._least[slots])
        self._learn(slots, classes)
        if len(slots):
            self._mirror.set_bases(slots, classes, coded)
        return Column(bitmap, encode_bases(classes, coded), len(slots), slots[:0])

    def _extras(self, extras: Extras, tick: Tick) -> Piece:
        section = self._compressor.section(render_extras(extras, self._mirror.bases, tick.at_ms))
        return Piece(EXTRAS, extras=section, samples=extras.samples)


def _ascending(slots: Slots) -> Integers:
    return distinct(slots).astype(np.int64) if len(slots) else NO_SLOTS


def _first_values(tick: Tick, slots: Integers) -> Floats:
    """The first value of each slot in this tick: the one at `at_ms`, else the first of its own time, else zero."""
    values = tick.values[slots]
    if tick.present is None:
        return values
    absent = np.flatnonzero(~tick.present[slots])
    values[absent] = 0.0
    if len(absent) and tick.dated is not None:
        dated, first = np.unique(tick.dated.slots, return_index=True)
        known = absent[is_among(slots[absent], dated)]
        values[known] = tick.dated.values[first[np.searchsorted(dated, slots[known])]]
    return values
