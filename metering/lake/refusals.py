"""Telling collectors of acknowledged records that can't be stored: a record in the refusals' topic for each."""

from __future__ import annotations

from collections.abc import Sequence

from kernel.log import Log, LogWriter
from metering.lake.intake import DeadRecord
from metering.refusal import REFUSALS_TOPIC, refusal_record


class Refusals:
    """Appends refusals; opens the log for writing when there is one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._writer: LogWriter | None = None

    async def append(self, dead: Sequence[DeadRecord]) -> None:
        """Append one record for each that a collector waits for; at least once. Raises LogUnavailable."""
        records = [refusal_record(each.record, each.reason) for each in dead if each.is_numbered]
        if not records:
            return
        if self._writer is None:
            await self._log.ensure_topics({REFUSALS_TOPIC: 1})
            self._writer = await self._log.writer()
        await self._writer.append(REFUSALS_TOPIC, records)

    async def close(self) -> None:
        """Release the log's writer. Idempotent."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()
