"""Frames of our own protocol, decoded again on this side: for receivers that lost their state or don't speak it.

The slow path: a group is read from its first frame, which lies in the same segment as the frame in question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from collector.exposition.columns import MetricType, family_of
from collector.labels import METRIC_NAME, Labels
from collector.spool.frame import Frame, PayloadKind
from collector.spool.segment import SegmentName, scan
from collector.wire.errors import WireError
from collector.wire.frames import FamilyMetadata, GroupReader, Rows, UnknownState
from collector.wire.frames.model import Integers
from collector.wire.model import DecodeLimits
from collector.wire.rw2 import decode_request
from collector.wire.series import WireSeries, series_of
from collector.wire.snappy import decompress

_OWN = DecodeLimits(2**31, 2**31, 2**31, 2**31, 2**31)  # our own bodies, from our own disk
_TYPES = {  # as of remote write 2.0's Metadata
    1: MetricType.COUNTER,
    2: MetricType.GAUGE,
    3: MetricType.HISTOGRAM,
    4: MetricType.GAUGEHISTOGRAM,
    5: MetricType.SUMMARY,
    6: MetricType.INFO,
    7: MetricType.STATESET,
}


Exemplar = tuple[float, int, Labels]
Earlier = Callable[[Frame, int], Iterator[Frame]]  # (frame, after): those of its group between that number and it


class Undecodable(Exception):
    """The frame builds on one that was damaged: nobody can read it any more."""


def frames_between(segments: Iterable[tuple[Path, SegmentName]], frame: Frame, after: int) -> Iterator[Frame]:
    """Frames of the group of `frame` with numbers over `after` and below its own. Blocking. Raises OSError."""
    for path, name in segments:
        if name.group != (frame.epoch, frame.group):
            continue
        for found in scan(path, name, path.stat().st_size):
            if not isinstance(found, Frame) or found.kind is not PayloadKind.FRAMES:
                continue
            if found.sequence >= frame.sequence:
                return
            if found.sequence > after:
                yield found


class _Told:
    """What frames say once for all that follow in their group: starts and metadata."""

    def __init__(self) -> None:
        self.starts: dict[int, int] = {}  # by series
        self._families: dict[str, FamilyMetadata] = {}
        self._types: dict[str, MetricType] = {}

    def take(self, rows: Rows) -> None:
        if rows.starts is not None:
            self.starts |= zip(rows.starts.series.tolist(), rows.starts.starts_ms.tolist(), strict=True)
        for told in rows.metadata:
            self._families[told.family], self._types[told.family] = told, _type(told.type)

    def of(self, name: str) -> FamilyMetadata | None:
        """What was told of the family that a series of this name belongs to."""
        return self._families.get(family_of(name, self._types)) if self._families else None


class GroupDecoder:
    """Blocking. Keeps the state of one group, so that frames in order cost one read each."""

    def __init__(self, earlier: Earlier) -> None:
        self._earlier = earlier
        self._group: tuple[int, int] | None = None
        self._at = 0  # the sequence up to which the state holds
        self._entries: list[bytes] = []
        self._told = _Told()
        self._reader: GroupReader | None = None
        self._last: tuple[tuple[int, int], list[WireSeries]] | None = None

    def series(self, frame: Frame) -> list[WireSeries]:
        """The samples of a frame, series by series, always in the same order. Raises Undecodable, OSError."""
        if frame.kind is PayloadKind.RW2:
            return series_of(decode_request(decompress(frame.payload, 2**31), _OWN))
        if self._last is None or self._last[0] != frame.position:
            reader = self._go_before(frame)
            self._at = frame.sequence
            try:
                self._last = frame.position, self._as_series(reader.read(frame.payload))
            except (UnknownState, WireError) as error:
                raise Undecodable(str(error)) from error
        return self._last[1]

    def roots_before(self, frame: Frame) -> list[bytes]:
        """Bodies that give a reader the state on which the frame builds. Raises Undecodable, OSError."""
        reader = self._go_before(frame)
        roots = reader.roots()
        self._at = frame.sequence
        try:
            reader.read(frame.payload, samples=False)  # else the receiver would refuse it again
        except (UnknownState, WireError) as error:
            raise Undecodable(str(error)) from error
        return roots

    def _assign(self, entries: Sequence[bytes]) -> Integers:
        begin = len(self._entries)
        self._entries.extend(entries)
        return np.arange(begin, len(self._entries), dtype=np.int64)

    def _go_before(self, frame: Frame) -> GroupReader:
        group, reader = (frame.epoch, frame.group), self._reader
        if reader is None or self._group != group or self._at >= frame.sequence:
            self._group, self._at, self._entries, self._told = group, 0, [], _Told()
            reader = self._reader = GroupReader(self._assign)
        for earlier in self._earlier(frame, self._at):
            self._at = earlier.sequence
            try:
                reader.read(earlier.payload, samples=False)
            except (UnknownState, WireError):
                continue  # what could be taken in was; if the frame needs the rest, it says so
        return reader

    def _as_series(self, rows: Sequence[Rows]) -> list[WireSeries]:
        samples: dict[int, list[tuple[int, float]]] = {}
        histograms: dict[int, list[bytes]] = {}
        exemplars: dict[int, list[Exemplar]] = {}
        for one in rows:
            self._told.take(one)
            columns = (one.series.tolist(), one.timestamps_ms.tolist(), one.values.tolist())
            for series, at_ms, value in zip(*columns, strict=True):
                samples.setdefault(series, []).append((at_ms, value))
            for series, message in one.histograms:
                histograms.setdefault(series, []).append(message)
            for exemplar in one.exemplars:
                labels = _labels(exemplar.labels)
                exemplars.setdefault(exemplar.series, []).append((exemplar.value, exemplar.timestamp_ms, labels))
        found = []
        for series, some in samples.items():
            beside = () if series in histograms else exemplars.get(series, ())
            found.append(self._one(series, tuple(sorted(some, key=_time)), (), beside))
        for series, messages in histograms.items():
            found.append(self._one(series, (), tuple(messages), exemplars.get(series, ())))
        return found

    def _one(
        self,
        series: int,
        samples: tuple[tuple[int, float], ...],
        histograms: tuple[bytes, ...],
        exemplars: Sequence[Exemplar],
    ) -> WireSeries:
        entry, told = self._entries[series], self._told
        labels = _labels(entry[1:])
        return WireSeries(
            labels,
            samples,
            _type(entry[0]),
            histograms,
            tuple(exemplars),
            told.starts.get(series, 0),
            told.of(dict(labels).get(METRIC_NAME, "")),
        )


def _time(sample: tuple[int, float]) -> int:
    return sample[0]


def _type(number: int) -> MetricType:
    return _TYPES.get(number, MetricType.UNKNOWN)


def _labels(canonical: bytes) -> Labels:
    parts = [part.decode() for part in canonical.split(b"\xff")[:-1]]
    return tuple(zip(parts[::2], parts[1::2], strict=True))
