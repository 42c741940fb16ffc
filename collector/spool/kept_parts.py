"""A kept frame that was pushed in parts: what of it arrived, and the parts' bodies made again.

The plan of `collector.push.bisect` is walked with what was accepted: the parts that have receipts. What it put
aside never arrived. A body is made again by the encoders of today; another compressor may give other bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from collector.push.bisect import Plan
from collector.push.groups import GroupDecoder, Undecodable, frames_between
from collector.spool.frame import Frame
from collector.spool.segment import SegmentName
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.series import WireSeries
from collector.wire.snappy import compress

PART_SAMPLES = 10_000  # of a frame that is cut for a receiver of remote write: `collector.push.uploader`
FIRST_RESYNC = 500_000  # parts from here on bring no samples


@dataclass(frozen=True, slots=True)
class Arrived:
    """The series of a frame that arrived; `same` of the `parts` have, made again, the hash that was signed."""

    series: Sequence[WireSeries]
    parts: int
    same: int


class KeptParts:
    """Frames of one lane. Blocking."""

    def __init__(self, segments: Iterable[tuple[Path, SegmentName]]) -> None:
        listed = list(segments)
        self._decoder = GroupDecoder(lambda frame, after: frames_between(listed, frame, after))

    def arrived(self, frame: Frame, accepted: Mapping[int, str]) -> Arrived:
        """`accepted`: sha256 of the parts' bodies by number. Raises Undecodable, OSError."""
        series = self._decoder.series(frame)
        plans = (Plan.begin(frame, len(series)), Plan.cut(frame, [one.size for one in series], PART_SAMPLES))
        for plan in plans:
            ranges = _walk(plan, accepted.keys())
            if ranges.keys() == accepted.keys():
                found = [series[start:stop] for start, stop in ranges.values()]
                same = sum(accepted[part] in _hashes(rows) for part, rows in zip(ranges, found, strict=True))
                return Arrived([one for rows in found for one in rows], len(found), same)
        numbers = ", ".join(map(str, sorted(accepted)))
        raise Undecodable(f"no cut of its {len(series)} series has the parts {numbers}")


def _walk(plan: Plan, accepted: Collection[int]) -> dict[int, tuple[int, int]]:
    """The series of each accepted part, where all others were refused."""
    found = {}
    while plan.ranges:
        if plan.part in accepted:
            found[plan.part] = plan.current
        elif not plan.is_smallest:
            plan = plan.split()
            continue
        plan = plan.settled()
    return found


def _hashes(rows: Sequence[WireSeries]) -> set[str]:
    return {sha256(compress(encode(rows))).hexdigest() for encode in (encode_rw2, encode_rw1)}
