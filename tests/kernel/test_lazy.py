"""Items that are made when one of them is looked at."""

from __future__ import annotations

import pytest

from kernel.lazy import LazySequence


def test_items_are_made_once_and_only_when_looked_at() -> None:
    made = []

    def make() -> tuple[int, ...]:
        made.append(1)
        return 1, 2, 3

    found = LazySequence(3, make)
    assert (len(found), bool(found), made) == (3, True, [])
    assert (found[0], found[1:], list(found)) == (1, (2, 3), [1, 2, 3])
    assert found == (1, 2, 3) == tuple(found)
    assert found != (1, 2)
    assert made == [1]


def test_a_count_that_is_not_that_of_the_items_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="2 items were made where 3"):
        LazySequence(3, lambda: (1, 2))[0]
