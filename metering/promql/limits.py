"""Bounds of the head, and the reasons for which it does not take a sample."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why samples were not taken in; also a metric label."""

    SERIES_LIMIT = "series_limit"
    BYTES_LIMIT = "bytes_limit"
    OUT_OF_ORDER = "out_of_order"
    OTHER_COLLECTOR = "other_collector"
    TOO_OLD = "too_old"
    FUTURE = "future"
    RESERVED = "reserved_name"
    FOREIGN_LABEL = "foreign_organization_label"
    MALFORMED = "malformed_labels"
    UNKNOWN_STATE = "unknown_frame_state"


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of the head, for each organization by itself."""

    retention_ms: int = 3_600_000
    series: int = 200_000
    bytes: int = 512 * 1024 * 1024
    future_ms: int = 600_000  # a sample further ahead of its receipt would block its series
    takeover_ms: int = 30_000  # a second collector of one series takes over after this silence of the first
