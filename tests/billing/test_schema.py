"""The migration makes what the models say, on both databases, and can be taken back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from billing import models
from kernel.database import Database, metadata

TABLES = [table for name, table in metadata.tables.items() if name.startswith("billing_")]


def test_the_migration_makes_the_tables_of_the_models(database: Database) -> None:
    assert len(TABLES) == 18 == len([value for value in vars(models).values() if isinstance(value, sa.Table)])
    inspector = sa.inspect(database.engine)
    for table in TABLES:
        found = {column["name"]: column for column in inspector.get_columns(table.name)}
        assert list(found) == [column.name for column in table.columns]
        for column in table.columns:
            assert found[column.name]["nullable"] == column.nullable, f"{table.name}.{column.name}"
            assert found[column.name]["type"]._type_affinity is column.type._type_affinity
        key = inspector.get_pk_constraint(table.name)["constrained_columns"]
        assert key == [column.name for column in table.primary_key]
        unique = {tuple(found["column_names"]) for found in inspector.get_unique_constraints(table.name)}
        assert unique == {
            tuple(column.name for column in constraint.columns)
            for constraint in table.constraints
            if isinstance(constraint, sa.UniqueConstraint)
        }
        assert {index["name"] for index in inspector.get_indexes(table.name) if not index["unique"]} == {
            index.name for index in table.indexes
        }


def test_the_migration_can_be_taken_back(database: Database) -> None:
    import importlib

    names = ("0004_billing", "0007_invoice_life", "0008_billing_content", "0010_signatures", "0015_marketplace")
    migrations = [importlib.import_module(f"console.migrations.versions.{name}") for name in names]

    def downgrade_and_upgrade(connection: sa.Connection) -> set[str]:
        with Operations.context(MigrationContext.configure(connection)):
            for migration in reversed(migrations):
                migration.downgrade()
            left = {name for name in sa.inspect(connection).get_table_names() if name.startswith("billing_")}
            for migration in migrations:
                migration.upgrade()
        return left

    assert database.transact(downgrade_and_upgrade) == set()
