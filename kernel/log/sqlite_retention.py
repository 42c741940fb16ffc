"""Old records leave the SQLite log, so that a folder does not fill. What a group has not passed stays."""

from __future__ import annotations

import sqlite3

from kernel.log.sqlite_schema import first_id, offset_of

DEFAULT_RETENTION_SECONDS = 7 * 24 * 3600.0
_CHUNK = 2000  # records of a partition in one transaction: appends wait for it


def retire(connection: sqlite3.Connection, before_ms: int) -> int:
    """Delete records appended before that time which every group has passed; how many. Call in a transaction.

    At most a chunk of each partition: call again while it answers more than nothing.
    """
    partitions = connection.execute("SELECT id FROM partitions").fetchall()
    return sum(_retire_partition(connection, partition_id, before_ms) for (partition_id,) in partitions)


def _retire_partition(connection: sqlite3.Connection, partition_id: int, before_ms: int) -> int:
    # A group that holds the partition and has committed nothing (NULL) is at its beginning.
    query = "SELECT min(ifnull(next_offset, 0)) FROM leases WHERE partition_id = ?"
    passed: int | None = connection.execute(query, (partition_id,)).fetchone()[0]
    oldest = connection.execute(
        "SELECT id, timestamp_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
        (first_id(partition_id), first_id(partition_id + 1)),
    ).fetchone()
    if oldest is None or oldest[1] >= before_ms:
        return 0
    end = offset_of(oldest[0]) + _CHUNK
    until = end if passed is None else min(end, passed)
    return connection.execute(
        "DELETE FROM records WHERE id >= ? AND id < ? AND timestamp_ms < ?",
        (oldest[0], first_id(partition_id, max(until, offset_of(oldest[0]))), before_ms),
    ).rowcount
