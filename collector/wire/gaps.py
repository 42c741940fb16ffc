"""Gap notices: which numbers of a lane will never arrive, said by its collector (docs/wire.md, 1.1).

A notice is canonical JSON, `{"gaps":[[first,last,reason,samples],...],"v":1}`, pushed to the address of all pushes
with a content type of its own. It holds numbers and reasons alone: no name, no value, no free text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from collector.wire.errors import WireError
from collector.wire.headers import MAX_INTEGER
from kernel.errors import truncate

VERSION = 1
CONTENT_TYPE = "application/vnd.byoc.gaps"
CONTENT_TYPE_GAPS = f"{CONTENT_TYPE};version={VERSION}"
NOTICE_PART = 600_000  # the part of a notice's name: no push and no resync has it
MAX_NOTICE_BYTES = 65_536
MAX_RUNS = 1_000


class GapReason(StrEnum):
    """Why a number will not arrive."""

    QUOTA = "quota"  # the oldest frames made room, or were too old
    DISK = "disk"  # the disk did not take the frame
    DAMAGE = "damage"  # the frame was damaged on disk, or builds on one that was
    REFUSED = "refused"  # the gateway refused samples for good: at once, or after it had taken them (signed)
    PURGED = "purged"  # somebody said so: `byoc collector spool purge`


class GapRun(NamedTuple):
    """Numbers `[first, last]` of the epoch in the headers; `samples` None: not known."""

    first: int
    last: int
    reason: GapReason
    samples: int | None = None


def render_notice(runs: Iterable[GapRun]) -> bytes:
    """The body of a notice."""
    gaps = [[run.first, run.last, run.reason.value, run.samples] for run in runs]
    return json.dumps({"v": VERSION, "gaps": gaps}, sort_keys=True, separators=(",", ":")).encode()


def parse_notice(body: bytes) -> tuple[GapRun, ...]:
    """The runs of a notice. Raises WireError for anything that is not one, also for one without a run."""
    try:
        fields = json.loads(body)
        if not isinstance(fields, dict) or fields.keys() != {"v", "gaps"} or fields["v"] != VERSION:
            raise ValueError(f"an object of `v` ({VERSION}) and `gaps` is wanted")
        gaps = fields["gaps"]
        if not isinstance(gaps, list) or not 1 <= len(gaps) <= MAX_RUNS:
            raise ValueError(f"`gaps` is a list of 1 to {MAX_RUNS} runs")
        return tuple(_run(gap) for gap in gaps)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError.at(
            "gap notice", truncate(str(error)), "[first,last,reason,samples] of docs/wire.md"
        ) from error


def _run(gap: object) -> GapRun:
    if not isinstance(gap, list) or len(gap) != 4:
        raise ValueError(f"a run of four is wanted, not {truncate(repr(gap))}")
    first, last, reason, samples = gap
    if not _is_integer(first, 1) or not _is_integer(last, 1) or last < first:
        raise ValueError(f"{truncate(repr(gap))}: numbers from 1 on, the first not above the last")
    if samples is not None and not _is_integer(samples, 0):
        raise ValueError(f"{truncate(repr(gap))}: samples is an integer from 0 on, or null")
    return GapRun(first, last, GapReason(reason), samples)


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_INTEGER
