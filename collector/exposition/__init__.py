"""Scraped bodies: text 0.0.4 and OpenMetrics, strict as Prometheus is."""

from __future__ import annotations

from typing import TypeVar

from collector.exposition.columns import Columns, KeyCache, MetricType, RawSeries
from collector.exposition.errors import ExpositionError
from collector.exposition.openmetrics import parse_openmetrics
from collector.exposition.text import parse_text

E = TypeVar("E")

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.1"
)

__all__ = ["ACCEPT", "Columns", "ExpositionError", "KeyCache", "MetricType", "RawSeries", "parse_exposition"]


def parse_exposition(body: bytes, content_type: str, cache: KeyCache[E]) -> Columns[E]:
    """The samples of a scraped body, by its Content-Type (anything but OpenMetrics is read as text 0.0.4).

    Raises ExpositionError; then nothing of the body counts.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/openmetrics-text":
        return parse_openmetrics(body, cache)
    return parse_text(body, cache)
