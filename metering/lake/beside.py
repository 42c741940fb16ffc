"""The tables beside the samples: what they hold, in which order, and which rows are one.

They are committed before the samples, whose commit alone moves the lake's position. So a crash in between stores
rows twice: each is read once, and merging files drops the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    DateType,
    DoubleType,
    FixedType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
)

NAMESPACE = "byoc"
_ROW_GROUP_ROWS = 65_536
_ICEBERG: Mapping[pa.DataType, IcebergType] = {
    pa.binary(16): FixedType(16),
    pa.int64(): LongType(),
    pa.int32(): IntegerType(),
    pa.float64(): DoubleType(),
    pa.binary(): BinaryType(),
    pa.string(): StringType(),
    pa.date32(): DateType(),
}


@dataclass(frozen=True, eq=False)
class BesideTable:
    """One table. Rows are ordered by `key`, then `last`; of rows with equal `key` the first is kept.

    `last`: columns and whether the greatest comes first. `partition`: (day, tenant), or (organization).
    """

    name: str
    columns: Mapping[str, pa.DataType]
    key: tuple[str, ...]
    partition: tuple[str, ...]
    last: tuple[tuple[str, bool], ...] = ()

    @property
    def identifier(self) -> tuple[str, str]:
        return NAMESPACE, self.name

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema(dict(self.columns))

    @property
    def is_by_day(self) -> bool:
        return "day" in self.partition

    @property
    def has_series(self) -> bool:
        return "series_id" in self.columns

    def schema(self) -> Schema:
        """The same columns in Iceberg's words; numbered by their place, so new ones go to the end."""
        return Schema(
            *(
                NestedField(number, name, _ICEBERG[kind], required=False)
                for number, (name, kind) in enumerate(self.columns.items(), 1)
            )
        )

    def spec(self) -> PartitionSpec:
        numbers = {name: number for number, name in enumerate(self.columns, 1)}
        return PartitionSpec(
            *(
                PartitionField(numbers[name], 1000 + place, IdentityTransform(), name)
                for place, name in enumerate(self.partition)
            )
        )


HISTOGRAMS = BesideTable(
    "histograms",
    {
        "series_id": pa.binary(16),
        "timestamp_ms": pa.int64(),
        "start_ms": pa.int64(),
        "schema": pa.int32(),
        "count": pa.float64(),
        "sum": pa.float64(),
        "zero_threshold": pa.float64(),
        "zero_count": pa.float64(),
        "message": pa.binary(),
        "day": pa.date32(),
        "tenant": pa.string(),
    },
    key=("series_id", "timestamp_ms", "message"),
    partition=("day", "tenant"),
)
EXEMPLARS = BesideTable(
    "exemplars",
    {
        "series_id": pa.binary(16),
        "timestamp_ms": pa.int64(),
        "value": pa.float64(),
        "labels": pa.binary(),
        "day": pa.date32(),
        "tenant": pa.string(),
    },
    key=("series_id", "timestamp_ms", "labels", "value"),
    partition=("day", "tenant"),
)
STARTS = BesideTable(
    "starts",
    {
        "series_id": pa.binary(16),
        "start_ms": pa.int64(),
        "seen_ms": pa.int64(),
        "organization": pa.string(),
    },
    key=("series_id", "start_ms"),
    partition=("organization",),
    last=(("seen_ms", False),),
)
METADATA = BesideTable(
    "metadata",
    {
        "organization": pa.string(),
        "project": pa.string(),
        "collector": pa.string(),
        "family": pa.string(),
        "type": pa.string(),
        "unit": pa.string(),
        "help": pa.string(),
        "seen_ms": pa.int64(),
    },
    key=("project", "collector", "family", "type", "unit", "help"),
    partition=("organization",),
    last=(("seen_ms", True),),
)
BESIDE: tuple[BesideTable, ...] = (HISTOGRAMS, EXEMPLARS, STARTS, METADATA)  # in the order of their commits


def each_once(table: BesideTable, rows: pa.Table) -> pa.Table:
    """The rows in order, of those with equal keys the first."""
    codes = _comparable(rows)
    wanted: Any = [*((name, "ascending") for name in table.key)]
    wanted += [(name, "descending" if is_greatest else "ascending") for name, is_greatest in table.last]
    order = pc.sort_indices(codes, sort_keys=wanted)
    ordered = codes.take(order)
    return rows.take(order.filter(pa.array(is_first(ordered, table.key))))


def is_first(rows: pa.Table, key: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which rows differ from the one before in any column of the key; floats by their bits."""
    codes = _comparable(rows)
    found = np.ones(len(rows), np.bool_)
    found[1:] = False
    for name in key:
        column: Any = codes.column(name).combine_chunks()
        whole = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        if len(whole) > 1:
            found[1:] |= pc.not_equal(whole.slice(1), whole.slice(0, len(whole) - 1)).to_numpy(zero_copy_only=False)
    return found


def _comparable(rows: pa.Table) -> pa.Table:
    # NaN is not equal to itself, and -0.0 is equal to 0.0: floats are told apart by their bits.
    for place, field in enumerate(rows.schema):
        if field.type == pa.float64():
            bits = rows.column(place).to_numpy().view(np.int64)
            rows = rows.set_column(place, field.name, pa.array(bits))
    return rows


def render(table: BesideTable, rows: pa.Table, *, level: int = 1) -> bytes:
    """Rows as a Parquet file; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.cast(table.arrow),
        sink,
        compression="zstd",
        compression_level=level,
        row_group_size=_ROW_GROUP_ROWS,
        store_schema=False,
    )
    return sink.getvalue().to_pybytes()


def parse(table: BesideTable, content: bytes) -> pa.Table:
    """The rows of a file of this table. Raises ArrowException when it is none."""
    return pq.read_table(pa.BufferReader(content), schema=table.arrow)


def merge(table: BesideTable, contents: Sequence[bytes]) -> Iterator[bytes]:
    """Files as one, each row once."""
    yield render(table, each_once(table, pa.concat_tables(parse(table, content) for content in contents)), level=6)
