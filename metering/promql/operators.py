"""Binary operators between scalars and vectors, as Prometheus defines them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metering.promql.syntax import Matching
from metering.promql.vector import (
    EMPTY,
    METRIC_NAME,
    EvaluationError,
    Floats,
    Grouping,
    Integers,
    LabelTable,
    Vector,
    render_labels,
)

Bools = npt.NDArray[np.bool_]

_ARITHMETIC: dict[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,  # the sign of the dividend, as Go's math.Mod
    "^": np.power,
}
_COMPARISON: dict[str, Callable[[Floats, Floats], Bools]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}


def compute(operator: str, left: Floats, right: Floats) -> Floats:
    """Arithmetic, or a comparison as 0 and 1, by IEEE 754: no division by zero is an error."""
    with np.errstate(all="ignore"):
        if operator in _ARITHMETIC:
            return np.asarray(_ARITHMETIC[operator](left, right), np.float64)
        return _COMPARISON[operator](left, right).astype(np.float64)


def scalar_and_scalar(operator: str, left: float, right: float) -> float:
    return float(compute(operator, np.float64(left), np.float64(right)))  # type: ignore[arg-type]


def vector_and_scalar(operator: str, vector: Vector, scalar: float, *, swapped: bool, as_bool: bool) -> Vector:
    """Element by element; a comparison without `bool` keeps the elements for which it holds."""
    other = np.full(len(vector), scalar)
    left, right = (other, vector.values) if swapped else (vector.values, other)
    values = compute(operator, left, right)
    if operator in _COMPARISON and not as_bool:
        return vector.where(values == 1)
    return vector.with_values(values).without_name()


def vector_and_vector(operator: str, left: Vector, right: Vector, matching: Matching, *, as_bool: bool) -> Vector:
    """One-to-one: each element of `left` with the element of `right` that agrees on the matching labels.

    Raises EvaluationError when more than one agrees on either side.
    """
    if not len(left) or not len(right):
        return EMPTY
    pairing = _pair(left, right, matching)
    position = pairing.positions()
    found = pairing.found
    hit = np.flatnonzero((found >= 0) & (position[found] >= 0))
    other = right.values[position[found[hit]]]
    matched = Vector(left.table, left.rows[hit], left.values[hit])
    values = compute(operator, matched.values, other)
    if operator in _COMPARISON and not as_bool:
        matched = matched.where(values == 1)
    else:
        matched = matched.with_values(values)
    keeps_name = operator in _COMPARISON and not as_bool
    return _one_to_one(matched, matching, keeps_name=keeps_name)


@dataclass(frozen=True, slots=True)
class _Pairing:
    """Signatures of the right side: of each left element (-1: none there), and of each right element."""

    groups: LabelTable
    found: Integers
    codes: Integers

    def positions(self) -> Integers:
        """Signature -> the one right element that has it, or -1. Raises EvaluationError when two have it."""
        counts = np.bincount(self.codes, minlength=len(self.groups))
        if counts.max() > 1:
            raise _many("right", self.groups, counts)
        position = np.full(len(self.groups), -1, np.int64)
        position[self.codes] = np.arange(len(self.codes))
        return position


def _pair(left: Vector, right: Vector, matching: Matching) -> _Pairing:
    of_left, of_right = _signatures(left.table, matching), _signatures(right.table, matching)
    partner = np.array([of_right.groups.find(labels) for labels in of_left.groups.labels], np.int64)
    return _Pairing(of_right.groups, partner[of_left.codes[left.rows]], of_right.codes[right.rows])


def _many(side: str, groups: LabelTable, counts: Integers) -> EvaluationError:
    labels = render_labels(groups.labels[int(counts.argmax())])
    return EvaluationError(
        f"more than one element on the {side} side matches {labels}; aggregate them, or match on more labels"
    )


def _signatures(table: LabelTable, matching: Matching) -> Grouping:
    if matching.on:
        return table.group(matching.labels, without=False)
    return table.group(tuple(sorted({*matching.labels, METRIC_NAME})), without=True)


def _one_to_one(matched: Vector, matching: Matching, *, keeps_name: bool) -> Vector:
    if matching.on:
        names = tuple(name for name in matching.labels if keeps_name or name != METRIC_NAME)
        grouping = matched.table.group(names, without=False)
    else:
        dropped = matching.labels if keeps_name else tuple(sorted({*matching.labels, METRIC_NAME}))
        grouping = matched.table.group(dropped, without=True)
    rows = grouping.codes[matched.rows]
    counts = np.bincount(rows, minlength=1)
    if counts.max() > 1:
        raise _many("left", grouping.groups, counts)
    return Vector(grouping.groups, rows, matched.values)


def set_operation(operator: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    """`and`, `unless`: elements of `left` with, without a match in `right`; `or` adds the unmatched of `right`."""
    if operator == "or":
        return _union(left, set_operation("unless", right, left, matching))
    if not len(left):
        return left
    if not len(right):
        return left if operator == "unless" else left.where(np.zeros(len(left), bool))
    pairing = _pair(left, right, matching)
    present = np.zeros(len(pairing.groups) + 1, bool)  # the last stands for -1: no such signature
    present[pairing.codes] = True
    matched = present[pairing.found]
    return left.where(matched if operator == "and" else ~matched)


def _union(left: Vector, right: Vector) -> Vector:
    if not len(right):
        return left
    if not len(left):
        return right
    return Vector.of(left.elements() + right.elements())
