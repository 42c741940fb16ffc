"""The meter catalogue: which series make which meter, how they are counted, in which unit. One YAML file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from fractions import Fraction
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, StrictInt, ValidationError, field_validator

from kernel.errors import Finding, InvalidInput, raise_findings
from kernel.ids import ID_RULE, parse_id
from kernel.lines import naming_lines
from kernel.settings import MAX_FILE_BYTES, Section, invalid, mapping_of, parse_yaml, read_text
from kernel.wording import refused

MAX_METERS = 200
MAX_LABELS = 10
MAX_SERIES = 20
MAX_SCALE = 10**9
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
RESERVED = frozenset({"organization", "project", "cluster", "collector", "__name__"})


class Kind(StrEnum):
    """How samples become a quantity."""

    GAUGE_INTEGRAL = "gauge-integral"  # level times time, of all series together
    COUNTER_INCREASE = "counter-increase"  # anchored differences with resets
    PEAK = "peak"  # the highest sum of all series at one moment
    PERCENTILE = "percentile"  # nearest rank over the means of 5-minute slots of the sum
    UNIQUE_COUNT = "unique-count"  # distinct values of a label, exactly
    LATEST = "latest"  # the sum at the last observed moment

    @property
    def is_gauge(self) -> bool:
        """Whether levels are held and summed."""
        return self in {Kind.GAUGE_INTEGRAL, Kind.PEAK, Kind.PERCENTILE, Kind.LATEST}

    @property
    def adds_up(self) -> bool:
        """Whether the quantity of a window is the sum of those of its hours."""
        return self in {Kind.GAUGE_INTEGRAL, Kind.COUNTER_INCREASE}


class Per(StrEnum):
    """The time in the unit of an integral."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def milliseconds(self) -> int:
        return {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}[self.value]


class Denominator(StrEnum):
    """Of which slots a percentile is taken."""

    WINDOW = "window"  # every slot; one without data counts as zero
    OBSERVED = "observed"  # those in which something was observed


def _named(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value) or len(value) > 200:
            raise refused(allowed)
        return value

    return AfterValidator(check)


def _id(value: str) -> str:
    try:
        return parse_id(value, "id")
    except InvalidInput as error:
        raise refused(ID_RULE) from error


Id = Annotated[str, AfterValidator(_id)]
MetricName = Annotated[str, _named(_METRIC, "a metric name such as milvus_proxy_req_count")]
LabelName = Annotated[str, _named(_LABEL, "a label name such as node_id")]
LabelValue = Annotated[str, _named(re.compile(r"[^\x00-\x1f\x7f]+"), "1 to 200 printable characters")]
PositiveInt = Annotated[StrictInt, Field(ge=1)]


class SeriesFilter(Section):
    """Series of one metric. Every label named must have one of its values; a list is a choice."""

    metric: MetricName = Field(description="the metric's name")
    where: dict[LabelName, tuple[LabelValue, ...]] = Field(
        default_factory=dict, max_length=MAX_LABELS, description="label: values that count; none: all"
    )

    @field_validator("where", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: [each] if isinstance(each, str) else each for name, each in value.items()}

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether a series with these labels counts."""
        return labels.get("__name__") == self.metric and all(
            labels.get(name, "") in values for name, values in self.where.items()
        )


class Meter(Section):
    """One meter. Its rows are by project, cluster (a label of the series) and the labels in `group_by`."""

    meter: Id = Field(description="id, as charges name it")
    description: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="what it counts")
    kind: Kind = Field(description="how samples become a quantity")
    series: tuple[SeriesFilter, ...] = Field(
        min_length=1, max_length=MAX_SERIES, description="what is counted, all of it together"
    )
    group_by: tuple[LabelName, ...] = Field(
        default=(), max_length=MAX_LABELS, description="labels that rows are kept apart by, beside the cluster"
    )
    identity: tuple[LabelName, ...] = Field(
        default=(),
        max_length=MAX_LABELS,
        description="gauges: labels by which series are one thing, of which the highest counts; none: all labels",
    )
    unit: Annotated[str, Field(min_length=1, max_length=40)] = Field(description="as printed")
    scale: Annotated[StrictInt, Field(ge=1, le=MAX_SCALE)] = Field(
        default=1, description="integers kept for one of the metric; a sample is rounded to them, half up"
    )
    unit_size: PositiveInt = Field(default=1, description="how many of the metric make one unit")
    per: Per | None = Field(default=None, description="gauge-integral: the time in the unit")
    percentile: Annotated[StrictInt, Field(ge=1, le=100)] | None = Field(
        default=None, description="percentile: which one"
    )
    denominator: Denominator | None = Field(default=None, description="percentile: of which slots")
    count: LabelName | None = Field(default=None, description="unique-count: the label whose values are counted")

    @property
    def divisor(self) -> int:
        """How many of the integers kept make one unit."""
        time = self.per.milliseconds if self.per else 1
        return (1 if self.kind is Kind.UNIQUE_COUNT else self.scale * self.unit_size) * time

    def in_units(self, quantity: Fraction | int) -> Fraction:
        """Integers kept as the meter's unit, exactly."""
        return Fraction(quantity, self.divisor)


class Catalogue(Section):
    """A version of a catalogue. A stored version never changes: a change is a new version."""

    catalogue: Id = Field(description="id of the catalogue")
    version: Annotated[StrictInt, Field(ge=1, le=100_000)] = Field(description="1, 2, 3, ...")
    meters: tuple[Meter, ...] = Field(min_length=1, max_length=MAX_METERS, description="the meters")

    @property
    def name(self) -> str:
        """Id and version, as rows carry them."""
        return f"{self.catalogue} {self.version}"

    @property
    def sha256(self) -> str:
        """Of its meaning: comments and spelling do not count."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def metrics(self) -> list[str]:
        """Every metric that a meter reads, once, sorted."""
        return sorted({each.metric for meter in self.meters for each in meter.series})


def parse_catalogue(text: str, source: str) -> Catalogue:
    """The catalogue in a YAML text. Raises InvalidInput with every finding: file, field, found, allowed."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise InvalidInput.single(source, "size", f"{len(text.encode())} bytes", f"at most {MAX_FILE_BYTES} bytes")
    content = mapping_of(parse_yaml(text, source), source)
    raise_findings(_repeated_keys(yaml.compose(text, yaml.SafeLoader), source))
    with naming_lines(text, source):
        try:
            catalogue = Catalogue.model_validate(content)
        except ValidationError as error:
            raise invalid(error, source, Catalogue) from error
        raise_findings(_findings(catalogue, source))
    return catalogue


def open_catalogue(path: Path | None) -> Catalogue:
    """The catalogue in a file; without one, the pack for Milvus. Raises InvalidInput."""
    return parse_catalogue(read_text(path), str(path)) if path else default_catalogue()


def default_catalogue() -> Catalogue:
    """The pack for Milvus that comes with the product."""
    return parse_catalogue(files("metering.meters").joinpath("milvus.yaml").read_text("utf-8"), "milvus.yaml")


def _repeated_keys(node: yaml.Node | None, source: str) -> Iterator[Finding]:
    """YAML would silently take the last of two."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _repeated_keys(each, source)
    elif isinstance(node, yaml.MappingNode):
        names = Counter(str(key.value) for key, _ in node.value)
        for name in (name for name, times in names.items() if times > 1):
            yield Finding(source, f"line {node.start_mark.line + 1}", f"{name} twice", "each key once")
        for _, value in node.value:
            yield from _repeated_keys(value, source)


def _findings(catalogue: Catalogue, source: str) -> Iterator[Finding]:
    times = Counter(meter.meter for meter in catalogue.meters)
    for index, meter in enumerate(catalogue.meters):
        where = f"meters[{index}]"
        if times[meter.meter] > 1:
            yield Finding(source, f"{where}.meter", f"{meter.meter} again", "each id once")
        yield from _finding_of_fields(meter, where, source)
        for name in ("group_by", "identity"):
            labels: tuple[str, ...] = getattr(meter, name)
            for label in labels:
                if labels.count(label) > 1 or (name == "group_by" and label in RESERVED):
                    allowed = "each label once, and none of " + ", ".join(sorted(RESERVED))
                    yield Finding(source, f"{where}.{name}", label, allowed)
        if meter.identity and not meter.kind.is_gauge:
            yield Finding(source, f"{where}.identity", str(list(meter.identity)), "none: only gauges have one")
        lacking = {"cluster", *meter.group_by} - set(meter.identity)
        if meter.identity and lacking:
            allowed = f"also {', '.join(sorted(lacking))}: a thing is in one group"
            yield Finding(source, f"{where}.identity", str(list(meter.identity)), allowed)
        filters = [each.model_dump_json() for each in meter.series]
        if len(set(filters)) < len(filters):
            yield Finding(source, f"{where}.series", "one filter twice", "each once")


def _finding_of_fields(meter: Meter, where: str, source: str) -> Iterator[Finding]:
    """Fields that one kind needs are refused for the others."""
    needed = {
        "per": Kind.GAUGE_INTEGRAL,
        "percentile": Kind.PERCENTILE,
        "denominator": Kind.PERCENTILE,
        "count": Kind.UNIQUE_COUNT,
    }
    for name, kind in needed.items():
        found = getattr(meter, name)
        if found is None and meter.kind is kind:
            yield Finding(source, f"{where}.{name}", "nothing", f"a value: {kind} needs it")
        elif found is not None and meter.kind is not kind:
            yield Finding(source, f"{where}.{name}", str(found), f"nothing: only {kind} has it")
