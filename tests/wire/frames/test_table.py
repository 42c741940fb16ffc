"""The table of entries: slots are small, reused, and an entry is what was put in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.frames import EntryTable


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10)), max_size=30), st.integers(1, 30_000))
def test_it_is_a_mapping_that_reuses_the_lowest_slots(turns: list[tuple[int, int]], length: int) -> None:
    table, model, made = EntryTable(), dict[int, bytes](), 0
    for taken, freed in turns:
        gone = sorted(model)[:freed]
        left = {slot: model.pop(slot) for slot in gone}
        table.free(np.array(gone, np.int32))
        entries = [b"%d" % number + b"x" * (length * number % 30_000) for number in range(made, made + taken)]
        made += taken
        lowest = [slot for slot in range(len(model) + taken) if slot not in model][:taken]
        slots = table.take(entries)
        assert slots.tolist() == lowest
        model.update(zip(slots.tolist(), entries, strict=True))
        assert [table.departed(slot) for slot in left] == list(left.values())
        table.settle()
        assert len(table) == len(model)
        assert np.flatnonzero(table.live()).tolist() == sorted(model)
        assert all(table.entry(slot) == entry for slot, entry in model.items())
        assert table.capacity > max(model, default=-1)


def test_what_is_freed_gives_its_memory_back() -> None:
    table = EntryTable()
    for number in range(3000):
        [slot] = table.take([b"%d" % number + b"x" * 1000])
        table.free(np.array([slot]))
        table.settle()
    assert table._texts.size < 200_000
    assert table.capacity == 1


def test_the_entry_that_left_first_is_the_one_before_the_tick() -> None:
    table = EntryTable()
    table.take([b"old"])
    table.settle()
    for entry in (b"between", b"new"):
        table.free(np.array([0]))
        table.take([entry])
    assert table.departed(0) == b"old"
    table.settle()
    assert table.take([b"other"]).tolist() == [1]
    assert table.departed(0) is None
