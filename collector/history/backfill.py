"""Sends a history table in the history lane: through the policy, the spool and the same gateway.

A run that was killed is taken up after its last synced frame: each frame carries the file's hash and its number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collector.errors import RootNeeded, SpoolFull
from collector.history.table import HistoryRow, HistoryTable
from collector.labels import METRIC_NAME, Labels, make_labels
from collector.left_meta import FrameMeta, listed, parse_meta, tally
from collector.policy import Policy
from collector.spool.files import load_checked, save_checked
from collector.spool.frame import Frame
from collector.spool.lane import LaneSpool
from collector.spool.options import Draft
from collector.spool.segment import list_segments, scan
from collector.wire.frames import Block, Dated, EntryTable, StreamEncoder, Tick

CHUNK_SAMPLES = 10_000
_SAMPLE_BYTES = 18


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the policy lets out of a table, and how many rows it keeps in."""

    rows: Sequence[HistoryRow]
    families: dict[Labels, str]
    denied: int


def apply_policy(table: HistoryTable, policy: Policy, external: Labels) -> Allowed:
    """Rows with the labels that may leave; rows that would collide with another's labels are kept in too."""
    decided: dict[Labels, Labels | None] = {}
    families: dict[Labels, str] = {}
    rows: list[HistoryRow] = []
    for row in table.rows:
        if row.labels not in decided:
            decided[row.labels] = _admit(row.labels, policy, external, families)
        final = decided[row.labels]
        if final is not None:
            rows.append(HistoryRow(row.timestamp_ms, final, row.value))
    return Allowed(rows, families, len(table.rows) - len(rows))


def _admit(labels: Labels, policy: Policy, external: Labels, families: dict[Labels, str]) -> Labels | None:
    named = {**dict(external), **dict(labels)}
    allowed = policy.admit(named[METRIC_NAME], named)
    if allowed is None:
        return None
    final = make_labels(allowed)
    if final in families:
        return None
    families[final] = named[METRIC_NAME]
    return final


class Backfill:
    """One file into one lane."""

    def __init__(self, spool: LaneSpool, table: HistoryTable, allowed: Allowed) -> None:
        self._spool = spool
        self._name = table.sha256
        self._allowed = allowed
        self._slots: dict[Labels, int] = {}
        self._table = EntryTable()
        self._encoder = StreamEncoder(
            int(self._name[:8] or "0", 16), self._table
        )  # a stream of its own for each file
        self._journal = spool.folder / "imports.json"

    async def run(self, done: int | None = None) -> int:
        """Append what was not appended before; returns the samples appended now. Raises SpoolUnavailable.

        `done`: what `chunks_done` said before the lane was being emptied.
        """
        if done is None:
            done = await asyncio.to_thread(self.chunks_done)
        appended = 0
        for number, rows in enumerate(self._chunks(), 1):
            if number <= done:
                continue
            await self._append(number, rows)
            await asyncio.to_thread(self._note, number)
            appended += len(rows)
        return appended

    def chunks_done(self) -> int:
        """How many chunks of this file are in the spool or beyond: by the journal, or by the newest frame."""
        noted = (load_checked(self._journal) or {}).get(self._name, 0)
        return max(noted if isinstance(noted, int) else 0, newest_chunk(self._spool.folder, self._name))

    def _note(self, number: int) -> None:
        save_checked(self._journal, {**(load_checked(self._journal) or {}), self._name: number})

    async def _append(self, number: int, rows: Sequence[HistoryRow]) -> None:
        tick, meta = await asyncio.to_thread(self._tick, number, rows)
        generation, blocks = -1, list[Block]()
        while True:
            if generation != self._spool.generation:
                generation = self._spool.generation
                blocks = await asyncio.to_thread(self._encoder.encode, tick, generation)
            try:
                await self._spool.append(Draft(blocks, meta, len(rows)), generation)
            except RootNeeded:
                continue
            except SpoolFull:
                await self._spool.space.wait()
            else:
                return

    def _chunks(self) -> Iterator[Sequence[HistoryRow]]:
        rows = self._allowed.rows
        for start in range(0, len(rows), CHUNK_SAMPLES):
            yield rows[start : start + CHUNK_SAMPLES]

    def _tick(self, number: int, rows: Sequence[HistoryRow]) -> tuple[Tick, bytes]:
        """The rows as one scrape that has no time of its own: every sample is dated."""
        ordered = sorted(rows, key=lambda row: (row.labels, row.timestamp_ms))
        first = {row.labels: row.value for row in reversed(ordered) if row.labels not in self._slots}
        born = self._table.take([_entry(labels) for labels in first])
        self._slots.update(zip(first, born.tolist(), strict=True))
        values = np.zeros(self._table.capacity)
        values[born] = np.fromiter(first.values(), np.float64, len(first))
        dated = Dated(
            np.fromiter((self._slots[row.labels] for row in ordered), np.int32, len(ordered)),
            np.fromiter((row.timestamp_ms for row in ordered), np.int64, len(ordered)),
            np.fromiter((row.value for row in ordered), np.float64, len(ordered)),
        )
        nothing = np.zeros(0, np.int32)
        absent = np.zeros(self._table.capacity, np.bool_)
        tick = Tick(max(row.timestamp_ms for row in rows), values, absent, nothing, nothing, born, dated)
        families = self._allowed.families
        counts = tally((families[row.labels], _SAMPLE_BYTES) for row in ordered)
        new = [listed(families[labels], labels) for labels in first]
        return tick, FrameMeta(counts, new, f"{self._name}:{number}").render()


def _entry(labels: Labels) -> bytes:
    """Of a series whose type is not known."""
    return b"\0" + b"".join(name.encode() + b"\xff" + value.encode() + b"\xff" for name, value in labels)


def newest_chunk(folder: Path, name: str) -> int:
    """The highest chunk of this file among the frames still in the spool."""
    newest = 0
    for segment in list_segments(folder):
        path = folder / str(segment)
        for found in scan(path, segment, path.stat().st_size):
            if isinstance(found, Frame):
                for meta in found.metas:
                    tag, _, number = parse_meta(meta).tag.rpartition(":")
                    if tag == name:
                        newest = max(newest, int(number))
    return newest
