"""Adapters of the `Engine` port: durable (DBOS on SQLite or PostgreSQL) and in memory (virtual time)."""
