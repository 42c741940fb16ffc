"""The coding order of a cell that follows what changes is the one that is made from all of its slots."""

from __future__ import annotations

import random

import numpy as np

from collector.wire.frames.model import CELL
from collector.wire.frames.rearrange import without
from collector.wire.frames.sections import Patch
from collector.wire.frames.state import StreamState
from collector.wire.frames.values import Order

CLASSES = (0, 0, 0, 1, 2, 9, 255)


def same(one: Order, other: Order) -> bool:
    numbers = (one.integers, one.decimals) == (other.integers, other.decimals)
    arrays = zip((one.slots, one.coded, one.scale), (other.slots, other.coded, other.scale), strict=True)
    return numbers and all(np.array_equal(ours, theirs) for ours, theirs in arrays)


def patch(dice: random.Random, state: StreamState, slots: range, share: float) -> Patch:
    """Some live slots go, some free ones come, among them some of those that went."""
    live = set(np.flatnonzero(state.live).tolist())
    freed = sorted(slot for slot in live if dice.random() < share)
    free = {*slots} - live | {slot for slot in freed if dice.random() < 0.7}
    born = sorted(slot for slot in free if dice.random() < (0.9 if slot in live else share))
    classes = np.array([dice.choice(CLASSES) for _ in born], np.uint8)
    coded = np.array([dice.randrange(-(2**40), 2**40) for _ in born], np.int64)
    return Patch(np.array(freed, np.int64), np.array(born, np.int64), [], classes, coded)


def test_an_order_that_follows_patches_is_that_of_all_slots() -> None:
    dice = random.Random(11)
    followed = 0
    for _ in range(40):
        state = StreamState()
        state.grow(2 * CELL)
        first = dice.choice((0, CELL - 60))  # slots of one cell, or of two
        for _ in range(12):
            before = {cell: state.order(cell) for cell in (0, 1)}
            copies = {cell: (order.slots.copy(), order.coded.copy()) for cell, order in before.items()}
            state.take_in(patch(dice, state, range(first, first + 120), dice.choice((0.0, 0.02, 0.1, 0.9))))
            for cell in (0, 1):
                order = state.order(cell)
                assert same(order, state.order_of(state.slots(cell)))
                followed += order is not before[cell]
                kept = np.array([dice.random() < 0.8 for _ in range(len(order))], np.bool_)
                gone = np.sort(order.slots[~kept])
                less = without(order, gone, state.bases.classes[gone])
                assert same(less, state.order_of(np.sort(order.slots[kept])))
                assert all(map(np.array_equal, copies[cell], (before[cell].slots, before[cell].coded)))
    assert followed > 100
