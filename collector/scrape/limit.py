"""`sample_limit`: known series stay, new ones are left out, in the order of the body, once there is no room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from collector.scrape.index import Bools
from collector.scrape.placing import Held
from collector.scrape.plan import DROPPED, HELD, Codes, RowFacts
from collector.scrape.stream import Stream
from collector.wire.distinct import distinct


def over_limit(
    limit: int, codes: Codes, facts: RowFacts, streams: Sequence[Stream], held: Sequence[Held]
) -> tuple[Bools, list[int]]:
    """Which rows are left out, and which of the held series get a slot. `codes` is by row."""
    rows = np.arange(len(codes)) if facts.order is None else np.argsort(facts.order, kind="stable")
    dated = np.zeros(len(codes), np.bool_) if facts.is_dated is None else facts.is_dated
    known = np.zeros(len(codes), np.bool_)
    for lane, stream in enumerate(streams):
        ours = np.flatnonzero((codes >= 0) & ((codes & 1) == lane))
        known[ours] = stream.sent[codes[ours] >> 1]
    room = limit - len(distinct(codes[known & ~dated])) - int(np.count_nonzero(dated & (codes != DROPPED)))
    over = np.zeros(len(codes), np.bool_)
    seen: dict[int, bool] = {}
    release: list[int] = []
    for row in rows[~known[rows]].tolist():
        code = int(codes[row])
        is_held = code <= HELD
        if code < 0 and not is_held:
            continue
        if is_held and held[HELD - code].is_collided:
            continue
        if code not in seen:
            seen[code] = bool(dated[row]) or room > 0
            room -= not dated[row]
            if seen[code] and is_held:
                release.append(HELD - code)
        over[row] = not seen[code]
    return over, release
