"""What stays and what goes by the calendar: months are tagged when they are over, old days are taken out whole."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

from kernel.clock import from_ms
from kernel.ids import new_id
from kernel.logs import logger
from metering.lake.places import Places
from metering.lake.replace import replace_files
from metering.lake.tables import SAMPLES, Tables, translated_errors
from metering.lake.tags import tag_snapshot

_log = logger("lake")


async def drop_old_days(places: Places, now_ms: int, retention_days: int) -> int:
    """Take every day out that ended more than so many days ago; the number of files. Raises LakeUnavailable.

    The files themselves go once no kept snapshot refers to them; a tagged one refers to its own for good.
    """
    if not retention_days:
        return 0
    before = from_ms(now_ms).date() - timedelta(days=retention_days)
    old = [file for day, file in await asyncio.to_thread(_files_by_day, places.tables) if day < before]
    if not old or not await replace_files(places.tables, SAMPLES, new_id("commit"), old, ()):
        return 0
    _log.info("lake_days_dropped", files=len(old), before=str(before))
    return len(old)


async def tag_closed_months(places: Places, now_ms: int, after_days: int) -> tuple[str, ...]:
    """Tag the newest snapshot for every month with samples that ended so many days ago and has no tag yet.

    Returns the new tags, `month-YYYY-MM`. Raises LakeUnavailable.
    """
    state = await asyncio.to_thread(places.tables.samples)
    if state.snapshot_id is None:
        return ()
    until = from_ms(now_ms).date() - timedelta(days=after_days)
    days = {day for day, _ in await asyncio.to_thread(_files_by_day, places.tables)}
    names = {month_tag(day) for day in days if month_tag(day) < month_tag(until)}
    new = sorted(names - set(state.table.metadata.refs))
    for name in new:
        await asyncio.to_thread(tag_snapshot, places.tables, name, state.snapshot_id)
        _log.info("lake_month_tagged", tag=name, snapshot=state.snapshot_id)
    return tuple(new)


def month_tag(day: date) -> str:
    """The tag of a day's month."""
    return f"month-{day:%Y-%m}"


def _files_by_day(tables: Tables) -> list[tuple[date, Any]]:
    table = tables.load(SAMPLES)
    if table.current_snapshot() is None:
        return []
    with translated_errors("planning files"):
        files = [task.file for task in table.scan().plan_files()]
    return [(date.fromisoformat(_day(file.file_path)), file) for file in files]


def _day(location: str) -> str:
    return location.rsplit("/data/", 1)[-1].split("/", maxsplit=1)[0]
