"""What a tenant's limits say of a body of frames, from its heads and patches alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from collector.wire.errors import WireError
from collector.wire.frames import Body
from collector.wire.headers import PushHeaders
from kernel.errors import SlowDown
from kernel.window import DAY_MS
from metering.gateway.active import PLACE_BYTES
from metering.gateway.series import METRIC_NAME, Refusal
from metering.gateway.settings import TenantLimits

SAMPLES_PER_DAY_FILE = 10_000  # a sample on each of 400 days makes the lake write 400 files
_OWN = (b"organization", b"project")


@dataclass(slots=True)
class CheckedEntries:
    """The series that a body brings. `further_places`: kilobytes of labels beyond each one's first."""

    count: int = 0
    further_places: int = 0
    claims: int = 0  # series with a label that is the vendor's to set; its readers set it
    refused: Counter[Refusal] = field(default_factory=Counter)


def check_entries(body: Body, limits: TenantLimits) -> CheckedEntries:
    """Hold each new series against the tenant's limits on labels, as `check_series` does for foreign ones."""
    found = CheckedEntries()
    for block in body.blocks:
        if block.patch is None:
            continue
        for entry in block.patch.entries:
            labels = entry[1:].split(b"\xff")
            refusal = _refusal(labels[:-1:2], labels[1::2], len(entry), limits)
            if refusal is not None:
                found.refused[refusal] += 1
            found.count += 1
            found.further_places += (len(entry) - 1) // PLACE_BYTES
            found.claims += any(name in _OWN for name in labels[:-1:2])
    return found


def _refusal(names: Sequence[bytes], values: Sequence[bytes], size: int, limits: TenantLimits) -> Refusal | None:
    if len(names) + len(_OWN) > limits.labels_per_series:
        return Refusal.TOO_MANY_LABELS
    if METRIC_NAME.encode() not in names:
        return Refusal.NO_NAME
    if size > limits.series_bytes:
        return Refusal.LONG_SERIES
    if size > limits.label_name_bytes and max(map(len, names)) > limits.label_name_bytes:
        return Refusal.LONG_NAME
    if size > limits.label_value_bytes and max(map(len, values)) > limits.label_value_bytes:
        return Refusal.LONG_VALUE
    return None


def check_times(body: Body, limits: TenantLimits, now_ms: int) -> Counter[Refusal]:
    """The samples of blocks whose time is not allowed. Raises SlowDown for a clock that is ahead, if waiting helps.

    Refused for good is what is further ahead: behind a clock that is years off nothing would ever come through.
    """
    newest = now_ms + limits.future_seconds * 1000
    oldest = max(0, now_ms - limits.age_days * DAY_MS)
    ahead_ms = max((block.at_ms for block in body.blocks), default=0) - newest
    if 0 < ahead_ms <= limits.future_wait_seconds * 1000:
        raise SlowDown(
            f"a scrape is {ahead_ms // 1000} seconds further ahead of the gateway's clock than the"
            f" {limits.future_seconds} that are allowed: check the clock of the collector; the push is taken when"
            " its time has come",
            ahead_ms / 1000,
        )
    refused: Counter[Refusal] = Counter()
    for block in body.blocks:
        if block.at_ms > newest:
            refused[Refusal.TOO_NEW] += max(1, block.samples)
        elif block.at_ms < oldest:
            refused[Refusal.TOO_OLD] += max(1, block.samples)
    return refused


def check_resync(body: Body, push: PushHeaders) -> None:
    """A resync rebuilds state and is no push of its own: no sample of it would be counted. Raises WireError."""
    if push.resync and body.samples:
        raise WireError.at("request headers", f"a resync with {body.samples} samples", "a resync holds none")


def cost_of(body: Body, entries: CheckedEntries) -> int:
    """What a body takes from its tenant's bucket: its samples, long labels, further days as for remote write."""
    days = len({block.at_ms // DAY_MS for block in body.blocks})
    return body.samples + entries.further_places + SAMPLES_PER_DAY_FILE * max(0, days - 1)
