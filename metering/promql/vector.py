"""Instant vectors as columns: a table of label sets that queries share, rows into it, and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kernel.errors import Refuse
from metering.record import LabelSet

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
METRIC_NAME = "__name__"


class EvaluationError(Refuse):
    """The expression is well-formed but has no value on this data; the message says which elements collide."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which group each row of a table falls into: `codes[row]` is a row of `groups`."""

    groups: LabelTable
    codes: Integers


class LabelTable:
    """Immutable label sets, with the groupings asked of them so far: the same rule asks again at each tick."""

    MAX_GROUPINGS = 16

    def __init__(self, labels: Sequence[LabelSet]) -> None:
        self.labels = tuple(labels)
        self._groupings: dict[tuple[bool, tuple[str, ...]], Grouping] = {}
        self._index: dict[LabelSet, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def find(self, labels: LabelSet) -> int:
        """The first row of that label set, -1 when there is none."""
        if self._index is None:
            self._index = {found: row for row, found in reversed(list(enumerate(self.labels)))}
        return self._index.get(labels, -1)

    def group(self, names: tuple[str, ...], *, without: bool) -> Grouping:
        """Groups by the labels in `names`, or by all but those. A repeated question is answered from memory."""
        key = (without, names)
        found = self._groupings.get(key)
        if found is None:
            if len(self._groupings) >= self.MAX_GROUPINGS:
                self._groupings.clear()
            found = self._groupings[key] = self._group(frozenset(names), without)
        return found

    def _group(self, names: frozenset[str], without: bool) -> Grouping:
        slots: dict[LabelSet, int] = {}
        codes = np.empty(len(self.labels), np.int64)
        for row, labels in enumerate(self.labels):
            kept = tuple(pair for pair in labels if (pair[0] in names) is not without)
            codes[row] = slots.setdefault(kept, len(slots))
        return Grouping(LabelTable(tuple(slots)), codes)


@dataclass(frozen=True, slots=True)
class Vector:
    """`values[i]` belongs to the label set `table.labels[rows[i]]`; both have shape (n,)."""

    table: LabelTable
    rows: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, elements: Sequence[tuple[LabelSet, float]]) -> Vector:
        """A vector of (labels, value) pairs."""
        table = LabelTable([labels for labels, _ in elements])
        values = np.array([value for _, value in elements], np.float64)
        return cls(table, np.arange(len(elements)), values)

    def elements(self) -> list[tuple[LabelSet, float]]:
        """(labels, value) pairs, in row order."""
        return [(self.table.labels[row], float(value)) for row, value in zip(self.rows, self.values, strict=True)]

    def where(self, kept: npt.NDArray[np.bool_]) -> Vector:
        """The elements where `kept` is true."""
        return Vector(self.table, self.rows[kept], self.values[kept])

    def with_values(self, values: Floats) -> Vector:
        return Vector(self.table, self.rows, values)

    def without_name(self) -> Vector:
        """The same without metric names. Raises EvaluationError when that makes two elements equal."""
        return self.relabelled(self.table.group((METRIC_NAME,), without=True))

    def relabelled(self, grouping: Grouping) -> Vector:
        """The elements with the labels of their groups. Raises EvaluationError when two become equal."""
        rows = grouping.codes[self.rows]
        if len(grouping.groups) != len(self.table):
            raise_for_duplicates(grouping.groups, rows)
        return Vector(grouping.groups, rows, self.values)


def raise_for_duplicates(table: LabelTable, rows: Integers) -> None:
    """Raise EvaluationError when a row occurs twice."""
    counts = np.bincount(rows, minlength=len(table))
    if len(counts) and counts.max() > 1:
        raise EvaluationError(
            f"the vector has two elements with the labels {render_labels(table.labels[int(counts.argmax())])}; "
            "keep them apart with a label matcher or an aggregation"
        )


def render_labels(labels: LabelSet) -> str:
    """`{a="1",b="2"}`."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}"


EMPTY = Vector(LabelTable(()), np.empty(0, np.int64), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class Windows:
    """Samples of a window by series: row i holds `counts[i]` samples from the left, the rest is padding.

    `values` has shape (series, longest); stale markers are taken out. The times of the first and the last sample
    have shape (series,) and mean nothing where there is none.
    """

    table: LabelTable
    rows: Integers
    first_ms: Integers
    last_ms: Integers
    values: Floats
    counts: Integers
    start_ms: int = field(kw_only=True)  # exclusive
    end_ms: int = field(kw_only=True)  # inclusive
