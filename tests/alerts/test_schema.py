"""The migration makes the tables that the models describe."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from alerts import models
from kernel.database import Database, metadata

TABLES = {table.name for table in vars(models).values() if isinstance(table, sa.Table)}


def test_the_tables_are_as_the_models_say(database: Database) -> None:
    ours = sa.MetaData(naming_convention=metadata.naming_convention)
    for name in TABLES:
        metadata.tables[name].to_metadata(ours)

    def differences(connection: sa.Connection) -> list[object]:
        options = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name in TABLES}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), ours))

    assert len(TABLES) == 7
    assert database.transact(differences) == []
