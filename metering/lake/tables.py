"""The Iceberg tables, their catalog, and what a snapshot says about positions and horizon.

`byoc.samples` is partitioned by the columns day and tenant (identity, as Iceberg's day transform takes no long),
`byoc.series` by organization; those beside them are described in `beside.py`. None ever retries a commit by itself:
pyiceberg's retry would put a stale writer's files and positions on top of its successor's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NamespaceAlreadyExistsError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    DateType,
    DoubleType,
    FixedType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
)

from kernel.errors import InvalidInput
from kernel.log import TopicPartition
from metering.lake.beside import BESIDE, NAMESPACE
from metering.lake.errors import LakeUnavailable, UnknownSnapshot
from metering.lake.faults import translated_errors
from metering.lake.manifests import Manifests
from metering.lake.positions import COMMIT, HORIZON, POSITIONS, REPLAY, Standing, parse_positions
from metering.lake.series_cache import SeriesCache
from metering.lake.storage import IMPLEMENTATION, LakeFileIO

SAMPLES = (NAMESPACE, "samples")
SERIES = (NAMESPACE, "series")
ALL_TABLES = (SAMPLES, SERIES, *(table.identifier for table in BESIDE))
CATALOG = "byoc"
_EVOLUTIONS = 5

SAMPLES_SCHEMA = Schema(
    NestedField(1, "series_id", FixedType(16), required=False),
    NestedField(2, "timestamp_ms", LongType(), required=False),
    NestedField(3, "value", DoubleType(), required=False),
    NestedField(4, "day", DateType(), required=False),
    NestedField(5, "tenant", StringType(), required=False),
    NestedField(6, "reference", LongType(), required=False),
    NestedField(7, "delta", LongType(), required=False),
    NestedField(8, "scale", IntegerType(), required=False),
)
SERIES_SCHEMA = Schema(
    NestedField(1, "series_id", FixedType(16), required=False),
    NestedField(2, "organization", StringType(), required=False),
    NestedField(3, "project", StringType(), required=False),
    NestedField(4, "collector", StringType(), required=False),
    NestedField(5, "name", StringType(), required=False),
    NestedField(6, "labels", BinaryType(), required=False),
)
SAMPLES_SPEC = PartitionSpec(
    PartitionField(4, 1000, IdentityTransform(), "day"), PartitionField(5, 1001, IdentityTransform(), "tenant")
)
SERIES_SPEC = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "organization"))
PROPERTIES = {
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "30",
    "write.metadata.metrics.column.value": "none",
    "write.metadata.metrics.column.reference": "none",
    "write.metadata.metrics.column.delta": "none",
    "write.metadata.metrics.column.scale": "none",
    "write.metadata.metrics.column.labels": "none",
    "write.metadata.metrics.column.message": "none",
    "write.metadata.metrics.column.help": "none",
    "write.metadata.metrics.column.tenant": "full",
    "write.metadata.metrics.column.organization": "full",
}


@dataclass(frozen=True, slots=True)
class SamplesState:
    """The samples table as of one load: snapshot, next positions, where to read from, the horizon's hash."""

    table: Table
    snapshot_id: int | None
    positions: Mapping[TopicPartition, int]
    replay_from: Mapping[TopicPartition, int]
    horizon_sha256: str | None
    manifests: Manifests = field(default_factory=Manifests, compare=False, repr=False)

    def standing(self, source: TopicPartition) -> Standing:
        """Where a partition stands; at its beginning if the lake has nothing of it."""
        position = self.positions.get(source, 0)
        return Standing(position, min(position, self.replay_from.get(source, position)))


class Tables:
    """Opened catalog and tables. Every method blocks: not on the event loop."""

    def __init__(self, catalog_url: str, warehouse: str, properties: Mapping[str, str]) -> None:
        if not catalog_url.startswith(("sqlite", "postgresql")):
            raise InvalidInput.single("lake", "catalog_url", catalog_url.partition(":")[0], "sqlite or postgresql")
        local = "://" not in warehouse
        root = Path(warehouse).absolute().as_uri() if local else warehouse.rstrip("/")
        merged = {**properties, "uri": catalog_url, "warehouse": root, "py-io-impl": IMPLEMENTATION}
        self._folders: dict[tuple[str, str], str] = {}
        self._loaded: dict[tuple[str, str], Table] = {}
        self._manifests = Manifests()
        self.series = SeriesCache()
        with translated_errors("opening the lake"):
            self.warehouse = LakeFileIO(merged)
            self.warehouse.check_owner(root)
            self.catalog = _open_catalog(merged)
        described = [(SAMPLES, SAMPLES_SCHEMA, SAMPLES_SPEC), (SERIES, SERIES_SCHEMA, SERIES_SPEC)]
        described += [(table.identifier, table.schema(), table.spec()) for table in BESIDE]
        for identifier, schema, spec in described:
            with translated_errors(f"opening the table {'.'.join(identifier)}"):
                _ensure(self.catalog, identifier, schema, spec)

    def load(self, identifier: tuple[str, str]) -> Table:
        """The table as it is now. Raises LakeUnavailable.

        Its metadata is a file that never changes: it is read again only when the catalog names another.
        """
        with translated_errors(f"reading the table {'.'.join(identifier)}"):
            known = self._loaded.get(identifier)
            if known is None or known.metadata_location != self._metadata_location(identifier):
                known = self._loaded[identifier] = self.catalog.load_table(identifier)
            # Each caller has one of its own: a commit changes the table that it was made with.
            return Table(identifier, known.metadata, known.metadata_location, known.io, self.catalog)

    def _metadata_location(self, identifier: tuple[str, str]) -> str | None:
        """By the catalog's row, as the JDBC catalogs of all Iceberg libraries keep it."""
        namespace, name = identifier
        query = sa.select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == CATALOG,
            IcebergTables.table_namespace == namespace,
            IcebergTables.table_name == name,
        )
        with self.catalog.engine.connect() as connection:
            return connection.execute(query).scalar()

    def folder(self, identifier: tuple[str, str]) -> str:
        """Where a table's new data files go; asked for once."""
        found = self._folders.get(identifier)
        if found is None:
            found = self._folders[identifier] = f"{self.load(identifier).location()}/data"
        return found

    def samples(self, snapshot_id: int | None = None) -> SamplesState:
        """The samples table as it is now, or as of a snapshot. Raises LakeUnavailable, UnknownSnapshot."""
        table = self.load(SAMPLES)
        found = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
        if snapshot_id is not None and found is None:
            raise UnknownSnapshot(f"the lake has no snapshot {snapshot_id}: it expired; tag those that must stay")
        summary = _summary_with_positions(table, found)
        return SamplesState(
            table,
            found.snapshot_id if found else None,
            parse_positions(summary.get(POSITIONS, "{}")),
            parse_positions(summary.get(REPLAY, "{}")),
            summary.get(HORIZON),
            self._manifests,
        )

    def close(self) -> None:
        self.catalog.close()


def has_commit(table: Table, commit_id: str) -> bool:
    """Whether a snapshot of the table was made by that commit."""
    return any(_properties(snapshot).get(COMMIT) == commit_id for snapshot in table.metadata.snapshots)


def _summary_with_positions(table: Table, snapshot: Any) -> Mapping[str, str]:
    # A snapshot of another program (a compaction by Spark) carries none: its parent's still hold.
    while snapshot is not None:
        properties = _properties(snapshot)
        if POSITIONS in properties:
            return properties
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return {}


def current_properties(table: Table) -> Mapping[str, str]:
    """Positions, horizon and what else stands at the table's newest snapshot."""
    return _summary_with_positions(table, table.current_snapshot())


def _properties(snapshot: Any) -> Mapping[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot.summary else {}


def _open_catalog(properties: Mapping[str, str]) -> SqlCatalog:
    # Two processes that start on an empty database both create the catalog's tables; the slower one looks again.
    for attempt in range(5):
        try:
            return SqlCatalog(CATALOG, **properties)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.OperationalError):
            if attempt == 4:
                raise
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


def _ensure(catalog: SqlCatalog, identifier: tuple[str, str], schema: Schema, spec: PartitionSpec) -> None:
    if catalog.table_exists(identifier):
        _evolve(catalog, identifier, schema)
        return
    with suppress(NamespaceAlreadyExistsError, sqlalchemy.exc.IntegrityError):
        catalog.create_namespace(NAMESPACE)
    with suppress(TableAlreadyExistsError, sqlalchemy.exc.IntegrityError):
        catalog.create_table(identifier, schema, partition_spec=spec, properties=PROPERTIES)


def _evolve(catalog: SqlCatalog, identifier: tuple[str, str], schema: Schema) -> None:
    """Give a table of an earlier version the columns that it lacks; its files stay, and are null there."""
    for attempt in range(_EVOLUTIONS):
        table = catalog.load_table(identifier)
        there = set(table.schema().column_names)
        lacking = [field for field in schema.fields if field.name not in there]
        if not lacking:
            return
        try:
            with table.transaction() as transaction:
                with transaction.update_schema() as update:
                    for field in lacking:
                        update.add_column(field.name, field.field_type)
                transaction.set_properties(PROPERTIES)
            return
        except CommitFailedException as error:  # a writer committed meanwhile, or another process did the same
            if attempt == _EVOLUTIONS - 1:
                raise LakeUnavailable(f"{identifier[1]} took no new columns; trying again later") from error


def storage(table: Table) -> LakeFileIO:
    """The warehouse that the table lies in."""
    if not isinstance(table.io, LakeFileIO):
        raise TypeError(f"the table was opened with {type(table.io).__name__}")
    return table.io
