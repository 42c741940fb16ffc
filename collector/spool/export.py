"""What lies in a lane, written out for a person or another program. Blocking; reads kept frames too."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collector.labels import METRIC_NAME, Labels, render_labels
from collector.push.groups import GroupDecoder, Undecodable, frames_between
from collector.spool.frame import Frame, PayloadKind
from collector.spool.segment import SegmentName, list_segments, scan

_STALE = struct.pack("<Q", 0x7FF0000000000002)


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `first` to `last` of an epoch; None: of all."""

    epoch: int | None
    first: int = 1
    last: int | None = None

    def has(self, frame: Frame) -> bool:
        in_epoch = self.epoch is None or frame.epoch == self.epoch
        return in_epoch and self.first <= frame.sequence and (self.last is None or frame.sequence <= self.last)


def export_bodies(folder: Path, wanted: Range, out: Path) -> str:
    """Each body as it is sent, in a file of its own. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for frame in _frames(folder, wanted):
        suffix = "frame" if frame.kind is PayloadKind.FRAMES else "rw2.snappy"
        (out / f"{folder.name}-{frame.epoch}-{frame.sequence:08d}.{suffix}").write_bytes(frame.payload)
        count += 1
    return f"{count} bodies"


def export_csv(folder: Path, wanted: Range, out: Path) -> str:
    """Columns timestamp_ms, metric, value and one for each label, as `byoc collector backfill` reads them.

    A stale marker's value is `stale`. Raises OSError, Undecodable.
    """
    rows = list(stored_rows(folder, wanted))
    names = sorted({name for labels, _, _ in rows for name, _ in labels} - {METRIC_NAME})
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp_ms", "metric", "value", *names])
        for labels, at_ms, value in rows:
            fields = dict(labels)
            shown = "stale" if _is_stale(value) else repr(value)
            writer.writerow([at_ms, fields.get(METRIC_NAME, ""), shown, *(fields.get(name, "") for name in names)])
    return f"{len(rows)} rows"


def export_openmetrics(folder: Path, wanted: Range, out: Path) -> str:
    """Series after series with timestamps; stale markers are left out, as the format has none. Raises OSError."""
    by_series: dict[Labels, list[tuple[int, float]]] = {}
    for labels, at_ms, value in stored_rows(folder, wanted):
        if not _is_stale(value):
            by_series.setdefault(labels, []).append((at_ms, value))
    with out.open("w", encoding="utf-8") as file:
        for labels, samples in sorted(by_series.items()):
            for at_ms, value in sorted(samples):
                file.write(f"{render_labels(labels)} {value!r} {at_ms / 1000:.3f}\n")
        file.write("# EOF\n")
    return f"{sum(map(len, by_series.values()))} rows"


def _is_stale(value: float) -> bool:
    return struct.pack("<d", value) == _STALE


def _segments(folder: Path) -> list[tuple[Path, SegmentName]]:
    found = [(place / str(name), name) for place in (folder / "archive", folder) for name in list_segments(place)]
    return sorted(found, key=lambda one: one[1])


def _frames(folder: Path, wanted: Range) -> Iterator[Frame]:
    for path, name in _segments(folder):
        if wanted.epoch not in (None, name.epoch) or not path.exists():
            continue
        for found in scan(path, name, path.stat().st_size):
            if isinstance(found, Frame) and wanted.has(found):
                yield found


def stored_rows(folder: Path, wanted: Range) -> Iterator[tuple[Labels, int, float]]:
    """(labels, timestamp ms, value) of every sample that can be decoded, frame by frame. Raises OSError."""
    segments = _segments(folder)
    decoder = GroupDecoder(lambda frame, after: frames_between(segments, frame, after))
    for frame in _frames(folder, wanted):
        try:
            series = decoder.series(frame)
        except Undecodable:
            continue  # it builds on a frame that is damaged; `spool verify` says so
        for one in series:
            for at_ms, value in one.samples:
                yield one.labels, at_ms, value
