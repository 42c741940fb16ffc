"""A COMMIT whose answer is lost, on a real PostgreSQL: done or not, it counts once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from kernel.database import Database, DatabaseUnavailable
from tests.chaos.lossy import Loss, LossyWire, lossy_wire
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.services

# Without a key that would tell a repetition.
events = sa.Table("events", sa.MetaData(), sa.Column("name", sa.Text))


@pytest.fixture
def wire(postgres_server: PostgresServer) -> Iterator[LossyWire]:
    with lossy_wire(postgres_server.folder) as made:
        yield made


@pytest.fixture
def database(wire: LossyWire, postgres_url: str) -> Iterator[Database]:
    made = Database(sa.make_url(postgres_url).set(query={"host": str(wire.folder)}).render_as_string())
    made.transact(events.metadata.create_all)
    yield made
    made.close()


@pytest.mark.parametrize(("loss", "runs"), [(Loss.ANSWER, 1), (Loss.REQUEST, 2)])
def test_a_commit_in_doubt_is_looked_up_and_repeated_only_if_it_was_not_done(
    wire: LossyWire, database: Database, loss: Loss, runs: int
) -> None:
    calls = []

    def insert(connection: sa.Connection) -> str:
        calls.append(1)
        connection.execute(sa.insert(events).values(name="invoice"))
        return f"call {len(calls)}"

    wire.losses.append(loss)
    assert database.transact(insert) == f"call {runs}"
    assert not wire.losses
    assert names(database) == ["invoice"]


def test_a_read_whose_end_is_lost_is_simply_repeated(wire: LossyWire, database: Database) -> None:
    wire.losses.append(Loss.ANSWER)
    assert names(database) == []


def test_a_database_that_is_away_is_unavailable_and_not_a_crash(wire: LossyWire, database: Database) -> None:
    wire.close()
    (wire.folder / ".s.PGSQL.5432").unlink()
    database.close()
    with pytest.raises(DatabaseUnavailable, match="no database"):
        names(database)


def names(database: Database) -> list[str]:
    query = sa.select(events.c.name)
    return database.transact(lambda connection: list(connection.execute(query).scalars()))
