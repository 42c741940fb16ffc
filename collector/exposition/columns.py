"""What a parser fills: samples by column, and the cache that makes a repeated key cost one look-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

E = TypeVar("E")


class MetricType(StrEnum):
    """Of a metric family, as `# TYPE` names it; `untyped` of the text format is `unknown` here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    GAUGEHISTOGRAM = "gaugehistogram"
    SUMMARY = "summary"
    INFO = "info"
    STATESET = "stateset"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RawSeries:
    """A series as the target wrote it: name, labels in any order (empty values included), family, type."""

    name: str
    labels: Mapping[str, str]
    family: str
    type: MetricType


Admit = Callable[[RawSeries], E]


@dataclass(slots=True)
class KeyCache(Generic[E]):
    """Raw bytes of a series (`name{...}`) -> what `admit` made of it, once.

    A key that is here has passed the strict parser as a whole, so a line that begins with it needs only its
    number read. `limit` bounds the memory: over it the cache is emptied and filled anew.
    """

    admit: Admit[E]
    limit: int = 2_000_000
    entries: dict[bytes, E] = field(default_factory=dict)
    types: dict[str, MetricType] = field(default_factory=dict)
    comments: dict[bytes, tuple[str, MetricType] | None] = field(default_factory=dict)

    def begin(self) -> None:
        """Called at the start of a body: types are what this body declares; the caches stay bounded."""
        self.types = {}
        if len(self.entries) > self.limit:
            self.entries.clear()
        if len(self.comments) > self.limit // 10:
            self.comments.clear()

    def miss(self, key: bytes | None, name: str, labels: dict[str, str]) -> E:
        """Admit a series that was parsed in full; `key` None: do not keep it."""
        family = family_of(name, self.types)
        entry = self.admit(RawSeries(name, labels, family, self.types.get(family, MetricType.UNKNOWN)))
        if key is not None:
            self.entries[key] = entry
        return entry


@dataclass(slots=True)
class Columns(Generic[E]):
    """Samples in the order of the body; timestamps in ms, None where the target gave none."""

    entries: list[E] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    timestamps: dict[int, int] = field(default_factory=dict)  # row -> ms, for the rows that carry one

    def add(self, entry: E, value: float, timestamp_ms: int | None = None) -> None:
        if timestamp_ms is not None:
            self.timestamps[len(self.values)] = timestamp_ms
        self.entries.append(entry)
        self.values.append(value)


_SUFFIXES: tuple[tuple[str, frozenset[MetricType]], ...] = (
    ("_bucket", frozenset({MetricType.HISTOGRAM, MetricType.GAUGEHISTOGRAM})),
    ("_gcount", frozenset({MetricType.GAUGEHISTOGRAM})),
    ("_gsum", frozenset({MetricType.GAUGEHISTOGRAM})),
    ("_count", frozenset({MetricType.HISTOGRAM, MetricType.SUMMARY, MetricType.GAUGEHISTOGRAM})),
    ("_sum", frozenset({MetricType.HISTOGRAM, MetricType.SUMMARY, MetricType.GAUGEHISTOGRAM})),
    ("_created", frozenset({MetricType.HISTOGRAM, MetricType.SUMMARY, MetricType.COUNTER})),
    ("_total", frozenset({MetricType.COUNTER})),
    ("_info", frozenset({MetricType.INFO})),
)


def family_of(name: str, types: Mapping[str, MetricType]) -> str:
    """The metric family a sample belongs to, by the types declared before it."""
    if name in types:
        return name
    for suffix, of in _SUFFIXES:
        if name.endswith(suffix):
            base = name[: -len(suffix)]
            if types.get(base) in of:
                return base
    return name
