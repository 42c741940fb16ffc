"""The lake's rows as they lie in its files: no deduplication, no product code between file and witness."""

from __future__ import annotations

from console.demo.witness import Labels, Row
from metering.lake.tables import SERIES, Tables

_VALUE = ("value", "reference", "delta", "scale")


def raw_rows(tables: Tables, organization: str) -> list[Row]:
    """Every row of an organization, once for each time it is in a file. Blocks.

    The samples are taken as they stand before the series are read: a series is committed before its first sample.
    """
    samples = tables.samples().table.scan(row_filter=f"tenant LIKE '{organization}/%'")
    labels: dict[bytes, Labels] = {}
    for batch in tables.load(SERIES).scan(row_filter=f"organization == '{organization}'").to_arrow_batch_reader():
        for row in batch.to_pylist():
            labels[bytes(row["series_id"])] = _labels(row["labels"])
    rows: list[Row] = []
    for batch in samples.to_arrow_batch_reader():
        columns = (batch.column(name).to_pylist() for name in ("series_id", "timestamp_ms", *_VALUE))
        rows += [(labels[bytes(id_)], at_ms, _value(*stored)) for id_, at_ms, *stored in zip(*columns, strict=True)]
    return rows


def _value(value: float | None, reference: int | None, delta: int | None, scale: int | None) -> float:
    """A double, or the sum of two integers with decimal places; Python rounds a quotient of integers once."""
    if value is not None:
        return value
    if reference is None or delta is None or scale is None:
        raise ValueError("a row without a value")
    return float((reference + delta) / 10**scale)


def _labels(canonical: bytes) -> Labels:
    parts = canonical.split(b"\xff")[:-1]
    return tuple((name.decode(), value.decode()) for name, value in zip(parts[::2], parts[1::2], strict=True))
