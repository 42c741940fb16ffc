"""Bring a database to the newest schema. One chain of migrations serves SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from kernel.database import Database

MIGRATIONS = Path(__file__).with_name("migrations")
_ADVISORY_LOCK = 0x62796F63  # "byoc": two processes that start at once migrate one after the other


def migrate(database: Database) -> None:
    """Run every migration that is missing, in one transaction. Blocking; safe to call concurrently."""
    if not database.transact(is_current):
        database.transact(lambda connection: _upgrade(connection, locking=not database.is_sqlite))


def newest_revision() -> str:
    """The revision at the end of the chain; files are named by it, in order."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def is_current(connection: sa.Connection) -> bool:
    """Whether the schema is the newest, without loading the migration tool: every command asks."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == newest_revision()


def _upgrade(connection: sa.Connection, *, locking: bool) -> None:
    from alembic import command
    from alembic.config import Config

    if locking:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
