"""The index of slots says what a dictionary of all that was added and not removed would say."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.scrape import index
from collector.scrape.index import SlotIndex

changes = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 40), unique=True, min_size=1, max_size=12)), max_size=25
)


@given(changes, st.sampled_from((0, 3, 1_000)), st.randoms(use_true_random=False))
def test_it_finds_what_was_added_and_not_removed(
    some: list[tuple[bool, list[int]]], least: int, dice: Random
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(index, "_LEAST_CHANGES", least)
        found, model = SlotIndex(), dict[int, int]()
        for is_added, slots in some:
            chosen = [slot for slot in slots if (slot not in model) == is_added]
            if is_added:
                hashes = [dice.randint(-3, 3) for _ in chosen]
                found.add(np.array(hashes, np.int64), np.array(chosen, np.int32))
                model |= zip(chosen, hashes, strict=True)
            else:
                found.remove(np.array(chosen, np.int32))
                for slot in chosen:
                    del model[slot]
            wanted = list(range(-3, 4))
            expected = sorted((hashed + 3, slot) for slot, hashed in model.items())
            assert sorted(found.find(np.array(wanted, np.int64))) == expected
