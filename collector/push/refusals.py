"""What a gateway accepted and the vendor could not store after all: written down once, whichever answer says it.

One for the process: lanes, fresh and backlog, all hear of the same refusals. What is on disk is said with each push
(`seen`), so that the gateway goes on to the next ones; it tells but a few at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from collector.spool.gaps import Gap, GapReason, GapRecords
from collector.wire.receipt import PushName, Refusal, Signed, parse_refusal, render_refusal
from kernel.clock import Clock
from kernel.errors import truncate
from kernel.identity import Identity
from kernel.logs import logger

_log = logger("push")


class Refusals:
    """Thread-safe. `gaps`: by lane, where a refusal is written down."""

    def __init__(self, gaps: dict[str, GapRecords], clock: Clock) -> None:
        self._gaps = gaps
        self._clock = clock
        self._lock = threading.Lock()
        self._known: set[PushName] | None = None
        self.seen: int | None = None  # the greatest offset among those that were written down

    def note(self, refused: Sequence[Signed[Refusal]], who: Identity) -> None:
        """Write down those of an answer, verified, that are new. One of another collector is not ours to note.

        Blocking. Raises OSError.
        """
        with self._lock:
            for signed in refused:
                self._note(signed, who)
                offset = signed.content.offset
                if offset is not None:
                    self.seen = max(offset, self.seen or 0)

    def _note(self, signed: Signed[Refusal], who: Identity) -> None:
        name = signed.content.name
        gaps = self._gaps.get(name.lane)
        ours = who.tenant.organization, who.tenant.project, who.collector
        if gaps is None or (name.organization, name.project, name.collector) != ours:
            return
        if self._known is None:
            self._known = {known for records in self._gaps.values() for known in _refused_before(records)}
        if name in self._known:
            return
        detail = render_refusal(signed)
        gaps.record(
            Gap(GapReason.REFUSED, self._clock.now_ms(), name.epoch, name.sequence, name.sequence, detail=detail)
        )
        self._known.add(name)
        reason = truncate(signed.content.reason)
        _log.error("push_refused_later", lane=name.lane, sequence=name.sequence, reason=reason)


def _refused_before(records: GapRecords) -> list[PushName]:
    names = []
    for gap in records.load():
        if gap.reason is GapReason.REFUSED and gap.detail.startswith("{"):
            try:
                names.append(parse_refusal(gap.detail).content.name)
            except ValueError:
                continue
    return names
