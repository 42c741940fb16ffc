"""Tags of snapshots."""

from __future__ import annotations

from contextlib import suppress

from pyiceberg.exceptions import CommitFailedException

from metering.lake.errors import LakeDamaged, LakeUnavailable, UnknownSnapshot
from metering.lake.faults import translated_errors
from metering.lake.tables import SAMPLES, Tables

_ATTEMPTS = 20


def tag_snapshot(tables: Tables, name: str, snapshot_id: int, identifier: tuple[str, str] = SAMPLES) -> None:
    """Keep a snapshot under a name; the same again is no error. Blocks.

    Raises UnknownSnapshot, LakeUnavailable, LakeDamaged when the name stands for another snapshot.
    """
    for _ in range(_ATTEMPTS):
        table = tables.load(identifier)
        if table.snapshot_by_id(snapshot_id) is None:
            raise UnknownSnapshot(f"the lake has no snapshot {snapshot_id}: it expired; tag those that must stay")
        found = table.metadata.refs.get(name)
        if found is not None and found.snapshot_id != snapshot_id:
            raise LakeDamaged(f"the tag {name!r} stands for snapshot {found.snapshot_id}, not for {snapshot_id}")
        if found is not None:
            return
        with translated_errors("tagging a snapshot"), suppress(CommitFailedException):
            table.manage_snapshots().create_tag(snapshot_id, name).commit()
    raise LakeUnavailable(f"the tag {name!r} was not taken in {_ATTEMPTS} attempts; try again")
