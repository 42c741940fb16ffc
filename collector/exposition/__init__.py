"""Scraped bodies: text 0.0.4 and OpenMetrics, strict as Prometheus is."""

from __future__ import annotations

from collector.exposition.columns import MetricType, RawExemplar, RawSeries, Rows, family_of
from collector.exposition.errors import ExpositionError, PageNeeded
from collector.exposition.lexing import OPENMETRICS, parse_key
from collector.exposition.numbering import Numbered
from collector.exposition.openmetrics import parse_openmetrics
from collector.exposition.readers import ReaderChoice, choose_reader, new_reader
from collector.exposition.reading import PageStream, Reader, Reading, grammar_of
from collector.exposition.text import parse_text

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.1"
)

__all__ = [
    "ACCEPT",
    "ExpositionError",
    "MetricType",
    "Numbered",
    "PageNeeded",
    "PageStream",
    "RawExemplar",
    "RawSeries",
    "Reader",
    "ReaderChoice",
    "Reading",
    "Rows",
    "choose_reader",
    "family_of",
    "grammar_of",
    "new_reader",
    "parse_strictly",
    "read_series",
]


def parse_strictly(body: bytes, content_type: str) -> Rows:
    """The rows of a body, read line by line: the reference for every `Reader`. Raises ExpositionError."""
    return parse_openmetrics(body) if grammar_of(content_type) is OPENMETRICS else parse_text(body)


def read_series(body: bytes, content_type: str) -> list[RawSeries]:
    """The series of a body as the target wrote them, in its order. Raises ExpositionError."""
    rows, grammar = parse_strictly(body, content_type), grammar_of(content_type)
    found = []
    for row, key in enumerate(rows.keys):
        name, labels = parse_key(key, grammar)
        family = family_of(name, rows.types)
        kind = rows.types.get(family, MetricType.UNKNOWN)
        found.append(RawSeries(name, labels, family, kind, rows.timestamps.get(row)))
    return found
