"""Which pushes will never come, as their collector said and the log keeps it: the value of a record of gaps.

JSON, `[[first, last, reason], ...]`; whose numbers they are and of which epoch stands in the record's headers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from kernel.errors import DeadLetter, truncate


class GivenUp(NamedTuple):
    """Numbers `[first, last]` of an epoch; `reason` as the collector's gap record says it."""

    first: int
    last: int
    reason: str


def encode_gaps(runs: Iterable[GivenUp]) -> bytes:
    """The value of a record."""
    return json.dumps(list(runs), separators=(",", ":")).encode()


def decode_gaps(value: bytes) -> tuple[GivenUp, ...]:
    """The inverse of `encode_gaps`. Raises DeadLetter."""
    try:
        runs = tuple(GivenUp(int(first), int(last), str(reason)) for first, last, reason in json.loads(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise DeadLetter(f"a record of gaps that can't be read: {error}") from error
    for run in runs:
        if not 1 <= run.first <= run.last:
            raise DeadLetter(f"a record of gaps with the numbers {truncate(str(run))}")
    return runs
