"""Evaluation of a syntax tree at one time, on any source of series. Pure but for what the source reads."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from metering.promql.operators import (
    scalar_and_scalar,
    set_operation,
    vector_and_scalar,
    vector_and_vector,
)
from metering.promql.parse import SET_OPERATORS
from metering.promql.syntax import (
    Absent,
    Aggregation,
    Binary,
    Expression,
    Negation,
    Number,
    RangeSelector,
    Selector,
    Time,
    ToVector,
    WindowCall,
)
from metering.promql.vector import Floats, Integers, Vector, Windows
from metering.promql.windows import apply_window_function


class SeriesSource(Protocol):
    """Samples of one organization. Label sets of one answer are distinct."""

    def instant(self, selector: Selector, at_ms: int) -> Vector:
        """The newest sample of each series in `(at - lookback, at]`, without series whose newest is stale."""

    def windows(self, selector: RangeSelector, at_ms: int) -> Windows:
        """The samples in `(at - range, at]` of each series that has one. `at_ms` has the offset taken off."""


def evaluate(expression: Expression, source: SeriesSource, at_ms: int) -> Vector:
    """The value at `at_ms`; a scalar becomes one element without labels, as in a Prometheus rule.

    Raises EvaluationError.
    """
    value = _evaluate(expression, source, at_ms)
    return value if isinstance(value, Vector) else Vector.of([((), value)])


def _evaluate(expression: Expression, source: SeriesSource, at_ms: int) -> Vector | float:
    match expression:
        case Number(value):
            return value
        case Time():
            return at_ms / 1000
        case Selector(offset_ms=offset_ms):
            return source.instant(expression, at_ms - offset_ms)
        case WindowCall(function, window):
            return apply_window_function(function, source.windows(window, at_ms - window.selector.offset_ms))
        case Absent(operand, labels):
            return Vector.of([]) if len(evaluate(operand, source, at_ms)) else Vector.of([(labels, 1.0)])
        case ToVector(operand):
            return evaluate(operand, source, at_ms)
        case Aggregation(operator, operand, labels, without):
            return aggregate(operator, evaluate(operand, source, at_ms), labels, without=without)
        case Negation(operand):
            return _negate(_evaluate(operand, source, at_ms))
        case Binary():
            return _binary(expression, _evaluate(expression.left, source, at_ms), source, at_ms)
    raise AssertionError(f"no evaluation of {type(expression).__name__}")


def _negate(value: Vector | float) -> Vector | float:
    return value.with_values(-value.values).without_name() if isinstance(value, Vector) else -value


def _binary(expression: Binary, left: Vector | float, source: SeriesSource, at_ms: int) -> Vector | float:
    operator, as_bool = expression.operator, expression.returns_bool
    right = _evaluate(expression.right, source, at_ms)
    if isinstance(left, Vector) and isinstance(right, Vector):
        if operator in SET_OPERATORS:
            return set_operation(operator, left, right, expression.matching)
        return vector_and_vector(operator, left, right, expression.matching, as_bool=as_bool)
    if isinstance(left, Vector):
        assert not isinstance(right, Vector)
        return vector_and_scalar(operator, left, right, swapped=False, as_bool=as_bool)
    if isinstance(right, Vector):
        return vector_and_scalar(operator, right, left, swapped=True, as_bool=as_bool)
    return scalar_and_scalar(operator, left, right)


def aggregate(operator: str, vector: Vector, labels: tuple[str, ...], *, without: bool) -> Vector:
    """`sum`, `min`, `max`, `avg` or `count` of the elements of each group."""
    if not len(vector):
        return vector
    names = tuple(sorted({*labels, "__name__"})) if without else labels
    grouping = vector.table.group(names, without=without)
    codes = grouping.codes[vector.rows]
    counts = np.bincount(codes, minlength=len(grouping.groups))
    present = np.flatnonzero(counts)
    return Vector(grouping.groups, present, _fold(operator, vector.values, codes, counts)[present])


def _fold(operator: str, values: Floats, codes: Integers, counts: Integers) -> Floats:
    if operator == "count":
        return counts.astype(np.float64)
    if operator in {"min", "max"}:
        # fmin and fmax pass over NaN unless all are NaN, as Prometheus does
        result = np.full(len(counts), np.nan)
        (np.fmin if operator == "min" else np.fmax).at(result, codes, values)
        return result
    sums = np.asarray(np.bincount(codes, weights=values, minlength=len(counts)), np.float64)
    if operator == "sum":
        return sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / counts)
