"""Commits that are safe to repeat: each knows its own id, and looks for it before it tries (again).

pyiceberg compares the table's snapshot with the one a commit was built on, so of two commits on one snapshot the
second fails. Whatever happened, the answer is the same: read the table again; is my id there, then it is done; did
my positions move without it, then another writer has them and I must stop; else build on the new snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import sqlalchemy.exc
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Table

from kernel.crashpoints import crash_point
from kernel.log import TopicPartition
from kernel.logs import logger
from metering.lake.errors import Fenced, LakeUnavailable
from metering.lake.horizon import Horizon, Source, SourceState
from metering.lake.horizon_store import HorizonStore
from metering.lake.positions import COMMIT, HORIZON, POSITIONS, REPLAY, Standing, render_positions
from metering.lake.tables import SamplesState, Tables, has_commit
from metering.lake.transaction import FrugalTransaction

ATTEMPTS = 20
_log = logger("lake")


class Outcome(Enum):
    """What one attempt came to."""

    DONE = auto()
    CONFLICT = auto()  # nothing was committed
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class SamplesCommit:
    """Files of samples, the positions they were read from and lead to, and the pushes they hold."""

    commit_id: str
    locations: tuple[str, ...]
    first: Mapping[TopicPartition, int]
    following: Mapping[TopicPartition, Standing]
    states: Mapping[Source, SourceState]


async def commit_files(
    tables: Tables, identifier: tuple[str, str], commit_id: str, locations: tuple[str, ...]
) -> None:
    """Add files to a table beside the samples, once. Raises LakeUnavailable."""
    for _ in range(ATTEMPTS):
        table = await asyncio.to_thread(tables.load, identifier)
        if has_commit(table, commit_id):
            return
        outcome = await asyncio.to_thread(attempt, table, locations, {COMMIT: commit_id})
        if outcome is Outcome.DONE:
            return
    raise LakeUnavailable(f"{identifier[1]} did not take a commit in {ATTEMPTS} attempts; trying again later")


async def commit_samples(tables: Tables, horizons: HorizonStore, commit: SamplesCommit) -> Horizon:
    """Commit files, positions and horizon in one instant, once; returns the horizon as committed.

    Raises Fenced when another writer has committed any of these positions (then nothing was committed),
    LakeUnavailable when the outcome stays unknown: call again with the same commit.
    """
    for _ in range(ATTEMPTS):
        state = await asyncio.to_thread(tables.samples)
        if has_commit(state.table, commit.commit_id):
            return await horizons.load(state.horizon_sha256)
        check_fence(state, commit)
        horizon = (await horizons.load(state.horizon_sha256)).with_states(commit.states)
        sha256 = await horizons.save(horizon, commit.commit_id)
        crash_point("lake.horizon-stored")
        positions = {source: standing.position for source, standing in commit.following.items()}
        replay = {source: standing.replay_from for source, standing in commit.following.items()}
        properties = {
            COMMIT: commit.commit_id,
            POSITIONS: render_positions({**state.positions, **positions}),
            REPLAY: render_positions({**state.replay_from, **replay}),
            HORIZON: sha256,
        }
        outcome = await asyncio.to_thread(attempt, state.table, commit.locations, properties)
        if outcome is Outcome.DONE:
            return horizon
    raise LakeUnavailable(f"the samples table did not take a commit in {ATTEMPTS} attempts; trying again later")


def check_fence(state: SamplesState, commit: SamplesCommit) -> None:
    """Raise Fenced unless the table stands exactly where this commit begins."""
    for source, first in commit.first.items():
        found = state.positions.get(source, 0)
        if found != first:
            raise Fenced(
                f"{source.topic}/{source.partition}: the lake stands at {found}, this batch begins at {first}: "
                "another writer committed; the batch is dropped and read again from the lake's position"
            )


def attempt(table: Table, locations: tuple[str, ...], properties: Mapping[str, str]) -> Outcome:
    """One commit on the snapshot that `table` was loaded with. Blocks."""
    try:
        with FrugalTransaction(table) as transaction:
            if locations:
                transaction.add_files(
                    list(locations), snapshot_properties=dict(properties), check_duplicate_files=False
                )
            else:
                with transaction.update_snapshot(snapshot_properties=dict(properties)).fast_append():
                    pass
    except CommitFailedException as error:
        _log.info("commit_conflict", error=str(error))
        return Outcome.CONFLICT
    except (CommitStateUnknownException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        _log.warning("commit_outcome_unknown", error=repr(error))
        return Outcome.UNKNOWN
    return Outcome.DONE
