"""Our own syntax tree of an expression: the part of PromQL that the engine evaluates, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import re2

LOOKBACK_MS = 300_000


class ValueKind(StrEnum):
    """What an expression yields at one time."""

    SCALAR = "scalar"
    VECTOR = "instant vector"
    RANGE = "range vector"


class MatchOperator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    NOT_MATCHES = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; an absent label is the empty text. Patterns are anchored at both ends."""

    name: str
    operator: MatchOperator
    value: str
    _pattern: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.operator in {MatchOperator.MATCHES, MatchOperator.NOT_MATCHES}:
            object.__setattr__(self, "_pattern", compile_pattern(self.value))

    def matches(self, value: str) -> bool:
        if self.operator is MatchOperator.EQUAL:
            return value == self.value
        if self.operator is MatchOperator.NOT_EQUAL:
            return value != self.value
        found = self._pattern.fullmatch(value) is not None
        return found is (self.operator is MatchOperator.MATCHES)

    def __str__(self) -> str:
        return f"{self.name}{self.operator.value}{self.value!r}"


def compile_pattern(pattern: str) -> Any:
    """An RE2 pattern, whose matching takes linear time whatever the pattern. Raises ValueError."""
    options = re2.Options()
    options.max_mem = 1 << 20
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"not an RE2 pattern: {error}") from error


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Time:
    """`time()`: the evaluation time in seconds."""


@dataclass(frozen=True, slots=True)
class Selector:
    """The newest sample of each series, at most `LOOKBACK_MS` old and not stale."""

    matchers: tuple[Matcher, ...]
    offset_ms: int = 0

    @property
    def metric(self) -> str | None:
        """The metric name, when an equality matcher pins it."""
        for matcher in self.matchers:
            if matcher.name == "__name__" and matcher.operator is MatchOperator.EQUAL:
                return matcher.value
        return None


@dataclass(frozen=True, slots=True)
class RangeSelector:
    """The samples of each series in `(T - offset - range, T - offset]`."""

    selector: Selector
    range_ms: int


@dataclass(frozen=True, slots=True)
class WindowCall:
    """`rate(x[5m])` and its kind: one value for each series from its samples in a window."""

    function: str
    window: RangeSelector


@dataclass(frozen=True, slots=True)
class Absent:
    """`absent(v)`: one element when `operand` is empty, with `labels` as far as its matchers tell them."""

    operand: Expression
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ToVector:
    """`vector(s)`."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Aggregation:
    """`sum by (labels) (v)`; `without` turns the label list round."""

    operator: str
    operand: Expression
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Matching:
    """How the elements of two vectors find each other: on the labels listed, or ignoring them."""

    on: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Expression
    right: Expression
    matching: Matching = Matching()
    returns_bool: bool = False


@dataclass(frozen=True, slots=True)
class Negation:
    operand: Expression


Expression = Number | Time | Selector | WindowCall | Absent | ToVector | Aggregation | Binary | Negation


def kind_of(expression: Expression) -> ValueKind:
    """Scalar or vector."""
    match expression:
        case Number() | Time():
            return ValueKind.SCALAR
        case Negation(operand):
            return kind_of(operand)
        case Binary(left=left, right=right):
            scalars = kind_of(left) is ValueKind.SCALAR and kind_of(right) is ValueKind.SCALAR
            return ValueKind.SCALAR if scalars else ValueKind.VECTOR
        case _:
            return ValueKind.VECTOR


def selectors_of(expression: Expression) -> list[tuple[Selector, int]]:
    """Every selector with how far before the evaluation time it may read, in ms."""
    match expression:
        case Selector(offset_ms=offset):
            return [(expression, max(0, offset) + LOOKBACK_MS)]
        case WindowCall(window=RangeSelector(selector, range_ms)):
            return [(selector, max(0, selector.offset_ms) + range_ms)]
        case Absent(operand=operand) | ToVector(operand) | Aggregation(operand=operand) | Negation(operand):
            return selectors_of(operand)
        case Binary(left=left, right=right):
            return selectors_of(left) + selectors_of(right)
        case _:
            return []
