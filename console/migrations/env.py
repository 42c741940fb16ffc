"""Alembic's entry: the connection is handed over by `console.migrate`, never read from a file."""

from __future__ import annotations

from alembic import context

from kernel.database import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
