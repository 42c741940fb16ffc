"""One series as it was sent, checked, and written in the tenant's name."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from collector.wire.model import Labels
from kernel.ids import Tenant
from metering.gateway.settings import TenantLimits
from metering.record import canonical_labels

METRIC_NAME = "__name__"
_METRIC_NAME = METRIC_NAME.encode()
_OWN = frozenset({b"organization", b"project"})


class Refusal(StrEnum):
    """Why a series or a sample was refused; also the label of a metric."""

    NO_NAME = "no_metric_name"
    EMPTY_NAME = "empty_label_name"
    DUPLICATE = "duplicate_label"
    TOO_MANY_LABELS = "too_many_labels"
    LONG_NAME = "label_name_too_long"
    LONG_VALUE = "label_value_too_long"
    LONG_SERIES = "series_too_long"
    ACTIVE_SERIES = "active_series_limit"
    TOO_NEW = "timestamp_too_new"
    TOO_OLD = "timestamp_too_old"
    HISTOGRAM = "invalid_native_histogram"
    BUCKETS = "invalid_buckets"
    TEMPORALITY = "not_cumulative"
    NUL = "nul_in_label"


@dataclass(frozen=True, slots=True)
class CheckedSeries:
    """The verdict on a label set: its canonical bytes, or why it is refused. `claims` counts overwritten labels."""

    canonical: bytes | None
    refusal: Refusal | None = None
    claims: int = 0


def check_series(labels: Labels, tenant: Tenant, limits: TenantLimits) -> CheckedSeries:
    """Check `labels` and put the tenant's own in. An empty value is no label (Prometheus' data model)."""
    kept: dict[str, str] = {}
    for name, value in labels:
        if not value:
            continue
        if name in kept:
            return CheckedSeries(None, Refusal.DUPLICATE)
        if len(name) > limits.label_name_bytes or len(value) > limits.label_value_bytes:
            return CheckedSeries(None, _too_long(name, limits))
        kept[name] = value
    refusal = _refusal(kept, limits)
    if refusal:
        return CheckedSeries(None, refusal)
    claims = _put_in(kept, "organization", tenant.organization) + _put_in(kept, "project", tenant.project)
    canonical = canonical_labels(kept.items())
    if len(canonical) > limits.series_bytes:
        return CheckedSeries(None, Refusal.LONG_SERIES)
    if b"\0" in canonical:
        return CheckedSeries(None, Refusal.NUL)
    # In ASCII characters are bytes, so the loop has checked the lengths already.
    if not canonical.replace(b"\xff", b"").isascii() and (refusal := _refusal_in_bytes(kept, limits)):
        return CheckedSeries(None, refusal)
    return CheckedSeries(canonical, None, claims)


def plain_canonical(parts: Sequence[bytes], tenant: Tenant, limits: TenantLimits) -> bytes | None:
    """The canonical bytes of a series that is as it should be, from its names and values in turn.

    Sorted, unique, whole, within all limits and without the tenant's own labels, as good senders send it; None for
    any other, of which `check_series` says what it is.
    """
    names = parts[0::2]
    if not all(parts) or len(names) > limits.labels_per_series or _METRIC_NAME not in names:
        return None
    if any(one >= two for one, two in pairwise(names)) or not _OWN.isdisjoint(names):
        return None
    if max(map(len, names)) > limits.label_name_bytes or max(map(len, parts)) > limits.label_value_bytes:
        return None
    merged = list(parts)
    for name, value in zip((b"project", b"organization"), (tenant.project, tenant.organization), strict=True):
        place = 2 * bisect(names, name)
        merged[place:place] = (name, value.encode())
    joined = b"\xff".join(merged) + b"\xff"
    is_whole = joined.count(b"\xff") == len(merged) and b"\0" not in joined and len(joined) <= limits.series_bytes
    return joined if is_whole and _is_text(joined) else None


def _is_text(joined: bytes) -> bool:
    if joined.replace(b"\xff", b"").isascii():
        return True
    try:
        joined.replace(b"\xff", b"/").decode()
    except UnicodeDecodeError:
        return False
    return True


def _put_in(labels: dict[str, str], name: str, value: str) -> int:
    """Write the tenant's own label; 1 if it was another's."""
    claimed = labels.get(name, value)
    labels[name] = value
    return int(claimed != value)


def _refusal(labels: dict[str, str], limits: TenantLimits) -> Refusal | None:
    if len(labels) > limits.labels_per_series:
        return Refusal.TOO_MANY_LABELS
    if METRIC_NAME not in labels:
        return Refusal.NO_NAME
    if "" in labels:
        return Refusal.EMPTY_NAME
    return None


def _refusal_in_bytes(labels: dict[str, str], limits: TenantLimits) -> Refusal | None:
    if any(len(name.encode()) > limits.label_name_bytes for name in labels):
        return Refusal.LONG_NAME
    if any(len(value.encode()) > limits.label_value_bytes for value in labels.values()):
        return Refusal.LONG_VALUE
    return None


def _too_long(name: str, limits: TenantLimits) -> Refusal:
    return Refusal.LONG_NAME if len(name) > limits.label_name_bytes else Refusal.LONG_VALUE
