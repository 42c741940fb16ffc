"""How many examples a costly law is tried with: few among the fast tests, all with EFFORT=deep.

`make test` runs the tests that are marked `deep` a second time, with all their examples.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings

Law = TypeVar("Law", bound=Callable[..., object])


def few_of(examples: int) -> int:
    """All of them with EFFORT=deep, else a fifth."""
    return examples if os.environ.get("EFFORT") == "deep" else max(5, examples // 5)


def costly(max_examples: int, others: settings | None = None) -> Callable[[Law], Law]:
    """In the place of `@settings`, for a law whose examples together take more than a second."""
    chosen = settings(others, max_examples=few_of(max_examples), deadline=None)

    def mark(law: Law) -> Law:
        marked: Law = pytest.mark.deep(chosen(law))
        return marked

    return mark
