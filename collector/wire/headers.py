"""The headers of a push: those of remote write, and ours beside them (docs/architecture.md, "Wire")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from collector.wire.errors import WireError
from kernel.errors import Finding

CONTENT_TYPE_RW1 = "application/x-protobuf"
CONTENT_TYPE_RW2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
CONTENT_TYPE_FRAMES = "application/vnd.byoc.frames;version=1"
VERSION_HEADER = "X-Prometheus-Remote-Write-Version"
VERSION_RW1 = "0.1.0"
VERSION_RW2 = "2.0.0"
SAMPLES_WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"
HISTOGRAMS_WRITTEN = "X-Prometheus-Remote-Write-Histograms-Written"
EXEMPLARS_WRITTEN = "X-Prometheus-Remote-Write-Exemplars-Written"

EPOCH = "X-Byoc-Epoch"
SEQUENCE = "X-Byoc-Sequence"
PART = "X-Byoc-Part"
LANE = "X-Byoc-Lane"
COMPLETE_THROUGH = "X-Byoc-Complete-Through"
PREVIOUS = "X-Byoc-Previous"
RESYNC = "X-Byoc-Resync"
REFUSED_SEEN = "X-Byoc-Refused-Seen"  # the greatest `offset` among the refusals that the collector has on its disk

MAX_INTEGER = 2**63 - 1
MAX_PART = 2**31 - 1

_OLD_BILLING = "live"  # what collectors sent before there was bulk
_PREFIX = "x-byoc-"
_NAMES = {
    name.lower(): name for name in (EPOCH, SEQUENCE, PART, LANE, COMPLETE_THROUGH, PREVIOUS, RESYNC, REFUSED_SEEN)
}
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class PushLane(StrEnum):
    """Samples that are billed, all others that are scraped, or a backfilled month. Each counts its own pushes."""

    BILLING = "billing"
    BULK = "bulk"
    HISTORY = "history"

    @classmethod
    def _missing_(cls, value: object) -> PushLane | None:
        return cls.BILLING if value == _OLD_BILLING else None


@dataclass(frozen=True, slots=True)
class PushHeaders:
    """Which push of our collector a body is. Same (epoch, sequence, part) in a lane means the same content."""

    epoch: int  # >= 0, grows with each boot
    sequence: int  # >= 1, without a gap in its lane and epoch
    lane: PushLane = PushLane.BILLING
    part: int = 0  # 0: a whole push; the parts of a bisected one grow
    complete_through_ms: int | None = None  # everything scraped before has been sent with this push or before
    previous: tuple[int, int] | None = None  # with an epoch's first push: the epoch before it, and its last number
    resync: bool = False  # no samples, only the state that a reader of frames lacked (409)
    refused_seen: int | None = None  # see REFUSED_SEEN; said with every push, since each gateway must hear it

    def render(self) -> dict[str, str]:
        """The headers to send."""
        fields = {
            EPOCH: str(self.epoch),
            SEQUENCE: str(self.sequence),
            PART: str(self.part),
            LANE: self.lane.value,
        }
        if self.complete_through_ms is not None:
            fields[COMPLETE_THROUGH] = str(self.complete_through_ms)
        if self.previous is not None:
            fields[PREVIOUS] = f"{self.previous[0]}.{self.previous[1]}"
        if self.resync:
            fields[RESYNC] = "1"
        if self.refused_seen is not None:
            fields[REFUSED_SEEN] = str(self.refused_seen)
        return fields


def parse_push_headers(headers: Iterable[tuple[str, str]]) -> PushHeaders | None:
    """Our headers among `headers` (name, value pairs, any case); None when there is not one of them.

    Raises WireError for an unknown X-Byoc- name, one sent twice, a missing one, and a value out of range: a push
    that is half marked as ours must not pass as a foreign one, which is stored by other rules.
    """
    found: dict[str, str] = {}
    findings: list[Finding] = []
    for name, value in headers:
        if not name.lower().startswith(_PREFIX):
            continue
        known = _NAMES.get(name.lower())
        if known is None:
            findings.append(_finding(name, value, f"one of {', '.join(_NAMES.values())}"))
        elif known in found:
            findings.append(_finding(name, "sent twice", "once"))
        else:
            found[known] = value
    if not found and not findings:
        return None
    findings += [
        _finding(name, "nothing", "required") for name in (EPOCH, SEQUENCE, PART, LANE) if name not in found
    ]
    if findings:
        raise WireError(findings)
    return _parse_fields(found)


def _parse_fields(found: dict[str, str]) -> PushHeaders:
    findings: list[Finding] = []

    def integer(name: str, low: int, high: int, text: str | None = None) -> int:
        text = found[name] if text is None else text
        value = int(text) if _INTEGER.fullmatch(text) else -1
        if not low <= value <= high:
            findings.append(_finding(name, text, f"an integer from {low} to {high}, without sign or leading zeros"))
        return value

    epoch = integer(EPOCH, 0, MAX_INTEGER)
    sequence = integer(SEQUENCE, 1, MAX_INTEGER)
    part = integer(PART, 0, MAX_PART)
    complete = integer(COMPLETE_THROUGH, 0, MAX_INTEGER) if COMPLETE_THROUGH in found else None
    previous = None
    if PREVIOUS in found:
        before, _, last = found[PREVIOUS].partition(".")
        previous = integer(PREVIOUS, 0, MAX_INTEGER, before), integer(PREVIOUS, 0, MAX_INTEGER, last)
    seen = integer(REFUSED_SEEN, 0, MAX_INTEGER) if REFUSED_SEEN in found else None
    if found.get(RESYNC, "1") != "1":
        findings.append(_finding(RESYNC, found[RESYNC], "1, or no such header"))
    lane = found[LANE]
    if lane not in {*PushLane, _OLD_BILLING}:
        findings.append(_finding(LANE, lane, "billing, bulk or history"))
    if findings:
        raise WireError(findings)
    return PushHeaders(epoch, sequence, PushLane(lane), part, complete, previous, RESYNC in found, seen)


def _finding(name: str, found: str, allowed: str) -> Finding:
    return Finding("request headers", name, found, allowed)
