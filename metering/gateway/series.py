"""One series as it was sent, checked, and written in the tenant's name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from collector.wire.model import Labels
from kernel.ids import Tenant
from metering.gateway.settings import TenantLimits
from metering.record import canonical_labels

METRIC_NAME = "__name__"


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
    HISTOGRAM = "native_histogram"


@dataclass(frozen=True, slots=True)
class CheckedSeries:
    """The verdict on a label set: its canonical bytes, or why it is refused. `claims` counts overwritten labels."""

    canonical: bytes | None
    refusal: Refusal | None = None
    claims: int = 0


def check_series(labels: Labels, tenant: Tenant, limits: TenantLimits) -> CheckedSeries:
    """Check `labels` and put the tenant's own in. An empty value is no label (Prometheus' data model)."""
    kept = [(name, value) for name, value in labels if value]
    refusal = _refusal(kept, limits)
    if refusal:
        return CheckedSeries(None, refusal)
    own = {"organization": str(tenant.organization), "project": str(tenant.project)}
    claims = sum(1 for name, value in kept if name in own and value != own[name])
    canonical = canonical_labels([*(pair for pair in kept if pair[0] not in own), *own.items()])
    if len(canonical) > limits.series_bytes:
        return CheckedSeries(None, Refusal.LONG_SERIES)
    return CheckedSeries(canonical, None, claims)


def _refusal(labels: list[tuple[str, str]], limits: TenantLimits) -> Refusal | None:
    if len(labels) > limits.labels_per_series:
        return Refusal.TOO_MANY_LABELS
    names = {name for name, _ in labels}
    if len(names) != len(labels):
        return Refusal.DUPLICATE
    if METRIC_NAME not in names:
        return Refusal.NO_NAME
    if "" in names:
        return Refusal.EMPTY_NAME
    if any(_is_longer(name, limits.label_name_bytes) for name in names):
        return Refusal.LONG_NAME
    if any(_is_longer(value, limits.label_value_bytes) for _, value in labels):
        return Refusal.LONG_VALUE
    return None


def _is_longer(text: str, limit: int) -> bool:
    return len(text) > limit or (not text.isascii() and len(text.encode()) > limit)
