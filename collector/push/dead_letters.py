"""Samples that the gateway refused for good, with its reason: kept for a person to look at. Bounded."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collector.labels import render_labels
from collector.spool.frame import Frame
from collector.wire.series import WireSeries
from kernel.errors import truncate


class DeadLetters:
    """A file of JSON lines, one for each series refused."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.unwritten = 0
        self._max_bytes = max_bytes

    def append(self, frame: Frame, part: int, series: Sequence[WireSeries], reason: str) -> None:
        """Durable when it returns; over the bound, or when the disk refuses, it is counted in `unwritten`."""
        content = b"".join(_line(frame, part, one, reason) for one in series)
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.fstat(descriptor).st_size + len(content) > self._max_bytes:
                    raise OSError("the dead-letter file is full")
                os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            self.unwritten += len(series)

    def load(self) -> list[dict[str, Any]]:
        """All dead letters."""
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def _line(frame: Frame, part: int, series: WireSeries, reason: str) -> bytes:
    fields = {
        "lane": frame.lane.value,
        "epoch": frame.epoch,
        "sequence": frame.sequence,
        "part": part,
        "reason": truncate(reason, 1000),
        "series": render_labels(series.labels),
        "samples": [[at, repr(value)] for at, value in series.samples],
        **({"histograms": [message.hex() for message in series.histograms]} if series.histograms else {}),
    }
    return json.dumps(fields, sort_keys=True).encode() + b"\n"
