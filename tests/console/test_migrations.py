"""The migrations, written by hand, make the tables that the models declare: on SQLite and PostgreSQL."""

import importlib
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from console.migrate import migrate
from kernel.database import Database, metadata, sqlite_url

ROOT = Path(__file__).parents[2]
COMPONENTS = ["alerts", "billing", "collector", "kernel", "metering", "provisioner"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    embedded = request.param == "sqlite"
    made = Database(sqlite_url(tmp_path / "db.sqlite") if embedded else request.getfixturevalue("postgres_url"))
    yield made
    made.close()


def import_models() -> None:
    """Every module that may declare a table, so that `metadata` is whole."""
    importlib.import_module("kernel.audit")
    for component in COMPONENTS:
        for module in pkgutil.walk_packages([str(ROOT / component)], f"{component}."):
            if module.name.endswith(".models"):
                importlib.import_module(module.name)


def test_the_migrations_make_what_the_models_declare(database: Database) -> None:
    import_models()
    migrate(database)

    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_name": is_ours}
        )
        return list(compare_metadata(context, metadata))

    assert database.transact(differences) == []
    assert len(metadata.tables) > 10


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def test_check_constraints_are_those_of_the_models(database: Database) -> None:
    """Alembic compares no check constraints."""
    import_models()
    migrate(database)

    def names(connection: sa.Connection) -> dict[str, set[str]]:
        inspector = sa.inspect(connection)
        return {
            table: {str(check["name"]) for check in inspector.get_check_constraints(table)}
            for table in metadata.tables
        }

    declared = {
        table.name: {str(check.name) for check in table.constraints if isinstance(check, sa.CheckConstraint)}
        for table in metadata.tables.values()
    }
    assert database.transact(names) == declared


def test_two_that_start_at_once_migrate_one_after_the_other(database: Database) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(migrate, [database] * 3))
    migrate(database)
    version = sa.text("SELECT version_num FROM alembic_version")
    assert database.transact(lambda connection: connection.execute(version).scalars().all()) == ["0017"]
