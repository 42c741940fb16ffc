"""What stays and what goes by the calendar: months are tagged when they are over, old days are taken out whole."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

from kernel.clock import from_ms
from kernel.ids import new_id
from kernel.logs import logger
from metering.lake.beside import EXEMPLARS, HISTOGRAMS
from metering.lake.faults import translated_errors
from metering.lake.places import Places
from metering.lake.replace import replace_files
from metering.lake.tables import SAMPLES, Tables
from metering.lake.tags import tag_snapshot

_log = logger("lake")


async def drop_old_days(places: Places, now_ms: int, retention_days: int, exemplar_days: int = 0) -> int:
    """Take every day out that ended more than so many days ago; the number of files. Raises LakeUnavailable.

    Histograms go with the samples, exemplars by `exemplar_days` or with them, whichever is sooner; 0: never. The
    files themselves go once no kept snapshot refers to them; a tagged one refers to its own for good.
    """
    of_exemplars = min((days for days in (retention_days, exemplar_days) if days), default=0)
    kept = {SAMPLES: retention_days, HISTOGRAMS.identifier: retention_days, EXEMPLARS.identifier: of_exemplars}
    today = from_ms(now_ms).date()
    return sum(
        [await _drop(places, identifier, today - timedelta(days=days)) for identifier, days in kept.items() if days]
    )


async def _drop(places: Places, identifier: tuple[str, str], before: date) -> int:
    old = [file for day, file in await asyncio.to_thread(_files_by_day, places.tables, identifier) if day < before]
    if not old or not await replace_files(places.tables, identifier, new_id("commit"), old, ()):
        return 0
    _log.info("lake_days_dropped", table=identifier[1], files=len(old), before=str(before))
    return len(old)


async def tag_closed_months(places: Places, now_ms: int, after_days: int) -> tuple[str, ...]:
    """Tag the newest snapshot for every month with samples that ended so many days ago and has no tag yet.

    Histograms get the tag too, before the samples. Returns the new tags, `month-YYYY-MM`. Raises LakeUnavailable.
    """
    state = await asyncio.to_thread(places.tables.samples)
    if state.snapshot_id is None:
        return ()
    until = from_ms(now_ms).date() - timedelta(days=after_days)
    days = {day for day, _ in await asyncio.to_thread(_files_by_day, places.tables, SAMPLES)}
    days |= {day for day, _ in await asyncio.to_thread(_files_by_day, places.tables, HISTOGRAMS.identifier)}
    names = {month_tag(day) for day in days if month_tag(day) < month_tag(until)}
    new = sorted(names - set(state.table.metadata.refs))
    for name in new:
        await _tag_histograms(places, name)
        await asyncio.to_thread(tag_snapshot, places.tables, name, state.snapshot_id)
        _log.info("lake_month_tagged", tag=name, snapshot=state.snapshot_id)
    return tuple(new)


async def _tag_histograms(places: Places, name: str) -> None:
    table = await asyncio.to_thread(places.tables.load, HISTOGRAMS.identifier)
    found = table.current_snapshot()
    if found is not None and name not in table.metadata.refs:
        await asyncio.to_thread(tag_snapshot, places.tables, name, found.snapshot_id, HISTOGRAMS.identifier)


def month_tag(day: date) -> str:
    """The tag of a day's month."""
    return f"month-{day:%Y-%m}"


def _files_by_day(tables: Tables, identifier: tuple[str, str]) -> list[tuple[date, Any]]:
    table = tables.load(identifier)
    if table.current_snapshot() is None:
        return []
    with translated_errors("planning files"):
        files = [task.file for task in table.scan().plan_files()]
    return [(date.fromisoformat(_day(file.file_path)), file) for file in files]


def _day(location: str) -> str:
    return location.rsplit("/data/", 1)[-1].split("/", maxsplit=1)[0]
