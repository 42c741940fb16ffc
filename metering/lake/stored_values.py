"""Columns of the samples table back into values: the one place that knows how a value is stored.

Files from before the integers have the column `value` alone. In all others a row has either `value`, or `delta`:
then it is `(reference + delta) / 10 ** scale`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.lake.rows import Bools, Floats, Integers
from metering.lake.scaled import Scales, to_scaled, to_values

COLUMNS = ("value", "reference", "delta", "scale")


@dataclass(frozen=True, slots=True)
class StoredValues:
    """Values by row; `integers[i]` of `scales[i]` where `is_integer[i]`, else `doubles[i]`."""

    doubles: Floats | None  # None: there are none
    integers: Integers
    scales: Scales
    is_integer: Bools | None  # None: all are, or none if there are doubles

    @classmethod
    def of(cls, table: pa.Table) -> StoredValues:
        """From the columns of a file, or of the samples table as an engine reads it."""
        count = table.num_rows
        value, nothing = table.column("value"), np.empty(0, np.int64)
        if "delta" not in table.column_names or table.column("delta").null_count == count:
            return cls(_numbers(value), nothing, nothing.astype(np.int8), None)
        delta = table.column("delta")
        integers = _numbers(delta) + _numbers(table.column("reference"))
        scales = _numbers(table.column("scale")).astype(np.int8)
        if not delta.null_count:
            return cls(None, integers, scales, None)
        return cls(_numbers(value), integers, scales, delta.is_valid().to_numpy())

    def values(self) -> Floats:
        """All of them as doubles, bit for bit what was stored."""
        if self.doubles is None:
            return to_values(self.integers, self.scales)
        if self.is_integer is None:
            return self.doubles
        return np.where(self.is_integer, to_values(self.integers, self.scales), self.doubles)

    def take(self, rows: Integers) -> StoredValues:
        """Those rows."""
        has_integers = self.doubles is None or self.is_integer is not None
        return StoredValues(
            None if self.doubles is None else self.doubles[rows],
            self.integers[rows] if has_integers else self.integers,
            self.scales[rows] if has_integers else self.scales,
            None if self.is_integer is None else self.is_integer[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[StoredValues]) -> StoredValues:
        """One after the other."""
        nothing = np.empty(0, np.int64)
        parts = [part for part in parts if part.count]
        if all(part.doubles is None for part in parts):
            integers = np.concatenate([nothing, *(part.integers for part in parts)])
            return cls(None, integers, np.concatenate([nothing.astype(np.int8), *(p.scales for p in parts)]), None)
        spread = [part.spread() for part in parts]
        return cls(*(np.concatenate(column) for column in zip(*spread, strict=True)))

    @property
    def count(self) -> int:
        """How many."""
        return len(self.integers if self.doubles is None else self.doubles)

    def spread(self) -> tuple[Floats, Integers, Scales, Bools]:
        """All four columns."""
        if self.doubles is None:
            return np.zeros(self.count), self.integers, self.scales, np.ones(self.count, np.bool_)
        if self.is_integer is not None:
            return self.doubles, self.integers, self.scales, self.is_integer
        nothing = np.zeros(self.count, np.int64)
        return self.doubles, nothing, nothing.astype(np.int8), np.zeros(self.count, np.bool_)

    def as_integers(self, counts: Integers) -> tuple[Integers, Scales]:
        """The integers by row, and their scales: -1 where the value is no such decimal. `counts`: rows of runs."""
        if self.doubles is not None and self.is_integer is None:
            scaled = to_scaled(self.doubles, counts)
            integers, is_integer = scaled.integers, scaled.is_exact
            scales = np.repeat(scaled.scales, counts)
        else:
            integers, scales, is_integer = self.integers, self.scales, self.is_integer
        return integers, scales if is_integer is None else np.where(is_integer, scales, np.int8(-1))


def read_columns(parquet: pq.ParquetFile, row_groups: Sequence[int] | None = None) -> pa.Table:
    """Ids, times and what the values are made of, of some row groups or of all."""
    there = set(parquet.schema_arrow.names)
    names = [name for name in ("series_id", "timestamp_ms", *COLUMNS) if name in there]
    groups = range(parquet.num_row_groups) if row_groups is None else row_groups
    return parquet.read_row_groups(list(groups), columns=names)


def _numbers(column: Any) -> Any:
    """A column as an array; where it is null, zero."""
    filled = column.fill_null(0) if column.null_count else column
    return filled.to_numpy()
