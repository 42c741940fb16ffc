"""Which rows of a body go where: made once, and used for every scrape whose rows are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from collector.scrape.index import NO_SLOTS, Bools, Slots
from collector.scrape.stream import Stream
from collector.wire.distinct import distinct

Codes = npt.NDArray[np.int32]
RowIndex = npt.NDArray[np.int64]
NO_ROWS: RowIndex = np.empty(0, np.int64)

# What a row's code says: from 0 on, the slot of a series times two, plus its lane; below, why there is none.
DROPPED, DENIED, TOO_LONG = -1, -2, -3
HELD = -10  # and below: a series that waits inside, for room under sample_limit or for its collision to end
BILLING, BULK = 0, 1
LANES = (BILLING, BULK)


def code_of(lane: int, slots: Slots) -> Codes:
    """The codes of slots."""
    codes: Codes = slots * np.int32(2) + np.int32(lane)
    return codes


@dataclass(slots=True)
class LanePlan:
    """The rows of one lane. `slots[i]` gets the value of row `rows[i]`; the dated ones carry times of their own."""

    rows: RowIndex | None  # None: all rows of the body
    slots: Slots
    dated_rows: RowIndex
    dated_slots: Slots
    referenced: Bools  # slots that any row of the body is about
    present: Bools  # slots that the rows are values of
    counts: Mapping[int, int]  # samples by family, without the dated ones

    def numbered_rows(self) -> RowIndex:
        """The rows, whether they are all or not."""
        return np.arange(len(self.slots)) if self.rows is None else self.rows


@dataclass(slots=True)
class Plan:
    """For rows with these codes. The numbers count rows."""

    lanes: Sequence[LanePlan]
    row_count: int
    denied: int = 0
    too_long: int = 0
    relabelled: int = 0
    duplicates: int = 0
    collided: int = 0
    over_limit: int = 0
    histograms: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What is known of the rows of a body beside their codes."""

    order: RowIndex | None  # place of each row in the body; None: as numbered
    is_dated: Bools | None
    is_over_limit: Bools | None


def make_plan(codes: Codes, facts: RowFacts, streams: Sequence[Stream]) -> Plan:
    """Of several rows of one series without a time of its own, the first in the body counts."""
    rows = np.arange(len(codes)) if facts.order is None else np.argsort(facts.order, kind="stable")
    codes = codes[rows]
    is_dated = np.zeros(len(codes), np.bool_) if facts.is_dated is None else facts.is_dated[rows]
    over = np.zeros(len(codes), np.bool_) if facts.is_over_limit is None else facts.is_over_limit[rows]
    plan = Plan(
        [],
        len(codes),
        denied=int(np.count_nonzero(codes == DENIED)),
        too_long=int(np.count_nonzero(codes == TOO_LONG)),
        relabelled=int(np.count_nonzero(codes != DROPPED)),
        over_limit=int(np.count_nonzero(over)),
    )
    _count_held(plan, codes, is_dated | over)
    lanes = []
    for lane, stream in enumerate(streams):
        is_ours = (codes >= 0) & ((codes & 1) == lane)
        lanes.append(_plan_lane(plan, stream, rows, codes, is_ours, is_dated, over))
    plan.lanes = lanes
    return plan


def _count_held(plan: Plan, codes: Codes, is_other: Bools) -> None:
    """Rows of series that are held back for a collision: those over the limit are counted as such."""
    held = codes[(codes <= HELD) & ~is_other]
    different = len(distinct(held))
    plan.collided += different
    plan.duplicates += len(held) - different


def _plan_lane(
    plan: Plan, stream: Stream, rows: RowIndex, codes: Codes, is_ours: Bools, is_dated: Bools, over: Bools
) -> LanePlan:
    capacity = stream.capacity
    referenced = np.zeros(capacity, np.bool_)
    referenced[codes[is_ours] >> 1] = True
    places = np.flatnonzero(is_ours & ~is_dated & ~over)
    slots = codes[places] >> 1
    first = np.zeros(capacity, np.int64)
    first[slots[::-1]] = places[::-1]  # the last assignment holds
    is_first = first[slots] == places
    plan.duplicates += len(places) - int(np.count_nonzero(is_first))
    is_apart = ~stream.collided[slots]
    plan.collided += int(np.count_nonzero(is_first & ~is_apart))
    kept = is_first & is_apart
    places, slots = places[kept], slots[kept]
    present = np.zeros(capacity, np.bool_)
    present[slots] = True
    counts = np.bincount(stream.families[slots])
    families = np.flatnonzero(counts)
    dated = np.flatnonzero(is_ours & is_dated)
    dated_slots = codes[dated] >> 1
    return LanePlan(
        rows[places],
        slots.astype(np.int32),
        rows[dated] if len(dated) else NO_ROWS,
        dated_slots.astype(np.int32) if len(dated) else NO_SLOTS,
        referenced,
        present,
        dict(zip(families.tolist(), counts[families].tolist(), strict=True)),
    )
