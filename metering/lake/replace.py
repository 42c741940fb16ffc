"""Replacing data files by others in one commit, built on the newest snapshot; what was appended meanwhile stays.

A snapshot that replaces carries the positions and the horizon of the one before it, unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import sqlalchemy.exc
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ValidationException
from pyiceberg.io.pyarrow import parquet_files_to_data_files
from pyiceberg.table import Table

from kernel.logs import logger
from metering.lake.commit import ATTEMPTS, Outcome
from metering.lake.errors import LakeUnavailable
from metering.lake.faults import translated_errors
from metering.lake.positions import COMMIT, HORIZON, POSITIONS, REPLAY
from metering.lake.tables import Tables, current_properties, has_commit
from metering.lake.transaction import FrugalTransaction

_log = logger("lake")
_CARRIED = (POSITIONS, REPLAY, HORIZON)


async def replace_files(
    tables: Tables, identifier: tuple[str, str], commit_id: str, old: Sequence[Any], new: Sequence[str]
) -> bool:
    """Take `old` (pyiceberg data files) out and `new` (locations) in, once, at one instant.

    False when some of the old ones are not there any more: then nothing was changed. Raises LakeUnavailable.
    """
    for _ in range(ATTEMPTS):
        table = await asyncio.to_thread(tables.load, identifier)
        if has_commit(table, commit_id):
            return True
        outcome = await asyncio.to_thread(_attempt, table, commit_id, old, new)
        if outcome is not Outcome.CONFLICT:
            if outcome is Outcome.DONE:
                return True
            continue
        if not await asyncio.to_thread(_holds, tables, identifier, old):
            return False
    raise LakeUnavailable(f"{'.'.join(identifier)} took no replacement in {ATTEMPTS} attempts; trying again later")


def _holds(tables: Tables, identifier: tuple[str, str], old: Sequence[Any]) -> bool:
    table = tables.load(identifier)
    with translated_errors("planning files"):
        there = {task.file.file_path for task in table.scan().plan_files()}
    return all(file.file_path in there for file in old)


def _attempt(table: Table, commit_id: str, old: Sequence[Any], new: Sequence[str]) -> Outcome:
    before = current_properties(table)
    properties = {COMMIT: commit_id, **{name: before[name] for name in _CARRIED if name in before}}
    try:
        with FrugalTransaction(table) as transaction:
            made: Any = parquet_files_to_data_files(table.io, table.metadata, iter(new))
            with transaction.update_snapshot(snapshot_properties=properties).overwrite() as overwrite:
                for file in old:
                    overwrite.delete_data_file(file)
                for file in made:
                    overwrite.append_data_file(file)
    except (CommitFailedException, ValidationException) as error:
        _log.info("replacement_conflict", error=str(error))
        return Outcome.CONFLICT
    except (CommitStateUnknownException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        _log.warning("replacement_outcome_unknown", error=repr(error))
        return Outcome.UNKNOWN
    return Outcome.DONE
