"""Bring a database to the newest schema. One chain of migrations serves SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from kernel.database import Database

_ADVISORY_LOCK = 0x62796F63  # "byoc": two processes that start at once migrate one after the other


def migrate(database: Database) -> None:
    """Run every migration that is missing, in one transaction. Blocking; safe to call concurrently."""

    def upgrade(connection: sa.Connection) -> None:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    database.transact(upgrade)
