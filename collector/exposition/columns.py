"""What a parser gives: rows by column, metric families and their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


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


MOST_TOLD = 10_000  # families of a page whose units and texts are kept
MOST_HELP = 4_096  # characters of a HELP text that are kept


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a comment says of a family: one of the three."""

    family: str
    type: MetricType | None = None
    unit: str | None = None
    help: str | None = None


@dataclass(slots=True)
class Declared:
    """What a page says of its families, by their names."""

    types: dict[str, MetricType] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)

    def add(self, said: Declaration) -> None:
        """Of what is said twice the later holds."""
        if said.type is not None:
            self.types[said.family] = said.type
        for texts, text in ((self.units, said.unit), (self.helps, said.help)):
            if text and (len(texts) < MOST_TOLD or said.family in texts):
                texts[said.family] = text[:MOST_HELP]


@dataclass(frozen=True, slots=True)
class RawSeries:
    """A series as the target wrote it: name, labels in any order (empty values included), family, type.

    `timestamp_ms`: the time that the target gave its sample, if it did.
    """

    name: str
    labels: Mapping[str, str]
    family: str
    type: MetricType
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RawExemplar:
    """An exemplar as the target wrote it; `timestamp_ms` None: it is of the scrape."""

    labels: Mapping[str, str]
    value: float
    timestamp_ms: int | None


@dataclass(slots=True)
class Rows:
    """Rows in the order of the body, and the types that the whole body declares.

    A key is the raw bytes of a series, `name{...}` as the target wrote it. Timestamps are in ms, by row, for the
    rows that carry one. A row with a native histogram has no value of its own (its place holds 0).
    """

    keys: list[bytes] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    timestamps: dict[int, int] = field(default_factory=dict)
    exemplars: dict[int, list[RawExemplar]] = field(default_factory=dict)
    histograms: dict[int, bytes] = field(default_factory=dict)  # io.prometheus.write.v2.Histogram messages
    created: dict[int, int] = field(default_factory=dict)  # ms when what is counted began, where the target said it
    declared: Declared = field(default_factory=Declared)

    @property
    def types(self) -> dict[str, MetricType]:
        """Of families."""
        return self.declared.types

    def add(self, key: bytes, value: float, timestamp_ms: int | None = None) -> None:
        if timestamp_ms is not None:
            self.timestamps[len(self.values)] = timestamp_ms
        self.keys.append(key)
        self.values.append(value)

    def declare(self, said: Declaration | None) -> None:
        """Take in what a comment said."""
        if said is not None:
            self.declared.add(said)


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
    """The metric family a sample belongs to, by the types that its body declares."""
    if name in types:
        return name
    for suffix, of in _SUFFIXES:
        if name.endswith(suffix):
            base = name[: -len(suffix)]
            if types.get(base) in of:
                return base
    return name


def names_of(family: str) -> tuple[str, ...]:
    """Every name that a sample of the family may have, whatever its type."""
    return (family, *(family + suffix for suffix, _ in _SUFFIXES))
