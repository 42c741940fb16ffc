"""From the rows of a stream to requests of remote write 2.0; it reads the same ticks as the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct, pack, unpack

import numpy as np
import numpy.typing as npt

from collector.remote_write.template import Chunk, Pairs, Symbols, Tally, name_of, pairs_of
from collector.wire.frames import Dated, EntryTable, Tick
from collector.wire.varint import length_delimited, sample, varint

Relabel = Callable[[Pairs], Pairs | None]
_DOUBLE = Struct("<d")
_STALE: float = unpack("<d", pack("<Q", 0x7FF0000000000002))[0]
_NONE = -1
_FEW = 8  # stale markers for less than this share are written one by one: a request of their own, not one a chunk
_COUNTED = frozenset({1, 3, 5})  # counter, histogram, summary: what has a beginning
_SUFFIXES = (b"_total", b"_bucket", b"_count", b"_sum")


@dataclass(frozen=True, slots=True)
class Request:
    """A body, not compressed, and what is in it."""

    body: bytes
    samples: int
    histograms: int = 0
    exemplars: int = 0
    families: Tally = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cutting:
    """What a receiver wants. `relabel` gives the labels of a series there; None: it does not go there."""

    max_series: int = 2000
    relabel: Relabel | None = None
    exemplars: bool = True
    histograms: bool = True


class StreamRequests:
    """The series of one stream as one receiver gets them. Every tick of the stream must come, in order."""

    def __init__(self, cutting: Cutting) -> None:
        self._cutting = cutting
        self._chunks: list[Chunk] = []
        self._created: dict[bytes, int] = {}  # a metric without its suffix -> slot of its `_created`
        self._created_slots: dict[int, bytes] = {}
        self._start_of = np.empty(0, np.int32)  # slot -> slot of its `_created`, or none
        self._is_new = True

    def take(self, table: EntryTable, tick: Tick) -> list[Request]:
        """The requests of a tick: stale markers, then values, then what has times of its own."""
        requests = [] if self._is_new else self._stale(tick)
        self._patch(table, tick)
        requests += self._columns(table, tick)
        requests += self._extras(tick)
        return requests

    # -- the series ------------------------------------------------------------------------------------------

    def _patch(self, table: EntryTable, tick: Tick) -> None:
        born = np.flatnonzero(table.live()) if self._is_new else tick.born
        self._is_new = False
        for slot in tick.freed.tolist():
            self._chunk(slot).clear(slot % self._cutting.max_series)
        if self._created:
            self._forget_created(tick.freed)
        if not len(born):
            return
        missing = table.capacity - len(self._start_of)
        if missing > 0:
            self._start_of = np.concatenate([self._start_of, np.full(missing, _NONE, np.int32)])
        self._note_created(table, born.tolist())
        for slot in born.tolist():
            self._put(slot, *pairs_of(table.entry(slot)))

    def _put(self, slot: int, pairs: Pairs, kind: int) -> None:
        started = self._start_of[slot] = self._start_slot(pairs, kind)
        relabel = self._cutting.relabel
        sent = pairs if relabel is None else relabel(pairs)
        if sent is None:
            self._chunk(slot).clear(slot % self._cutting.max_series)
        else:
            self._chunk(slot).put(slot % self._cutting.max_series, sent, kind, started=bool(started != _NONE))

    def _note_created(self, table: EntryTable, born: list[int]) -> None:
        for slot in born:
            entry = table.entry(slot)
            if b"_created\xff" not in entry:
                continue
            pairs, kind = pairs_of(entry)
            if kind in _COUNTED and dict(pairs).get(b"__name__", b"").endswith(b"_created"):
                metric = _metric(pairs, (b"_created",))
                self._created[metric], self._created_slots[slot] = slot, metric

    def _forget_created(self, freed: npt.NDArray[np.int32]) -> None:
        gone = {slot for slot in freed.tolist() if slot in self._created_slots}
        for slot in gone:
            self._created.pop(self._created_slots.pop(slot), None)
        if gone:
            self._start_of[np.isin(self._start_of, list(gone))] = _NONE

    def _start_slot(self, pairs: Pairs, kind: int) -> int:
        if not self._created or kind not in _COUNTED:
            return _NONE
        return self._created.get(_metric(pairs, _SUFFIXES), _NONE)

    def _chunk(self, slot: int) -> Chunk:
        number = slot // self._cutting.max_series
        while number >= len(self._chunks):
            self._chunks.append(Chunk())
        return self._chunks[number]

    # -- the rows --------------------------------------------------------------------------------------------

    def _stale(self, tick: Tick) -> list[Request]:
        if not len(tick.stale):
            return []
        if len(tick.stale) < len(self._start_of) // _FEW:
            cut = _Cut(self._cutting.max_series)
            marker = sample(tick.at_ms, _STALE)
            for slot in tick.stale.tolist():
                self._add(cut, slot, marker, samples=1)
            return cut.finish()
        size = max(len(self._start_of), int(tick.stale.max()) + 1)
        chosen = np.zeros(size, np.bool_)
        chosen[tick.stale] = True
        return list(self._encode(np.full(size, _STALE), tick.at_ms, chosen, None))

    def _columns(self, table: EntryTable, tick: Tick) -> list[Request]:
        present = table.live() if tick.present is None else tick.present
        if tick.histograms:
            present = present.copy()
            present[[row.slot for row in tick.histograms]] = False
        starts_ms = None
        if self._created:
            starts_ms = self._starts(tick.values, len(present))
        return list(self._encode(tick.values, tick.at_ms, present, starts_ms))

    def _starts(self, values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.int64]:
        found = self._start_of[:size]
        seconds = np.where(found == _NONE, 0.0, values[np.maximum(found, 0)])
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(seconds) & (seconds > 0) & (seconds < 4e9)
        return np.round(np.where(usable, seconds, 0.0) * 1000).astype(np.int64)

    def _encode(
        self, values: npt.NDArray[np.float64], at_ms: int, present: npt.NDArray[np.bool_],
        starts_ms: npt.NDArray[np.int64] | None,
    ) -> Iterator[Request]:  # fmt: skip
        size = self._cutting.max_series
        for number, chunk in enumerate(self._chunks):
            part = slice(number * size, (number + 1) * size)
            if not present[part].any():
                continue
            starts = starts_ms[part] if starts_ms is not None else None
            body, families = chunk.encode(values[part], at_ms, present[part], starts)
            if families:
                yield Request(body, sum(count for count, _ in families.values()), families=families)

    # -- what has times of its own ---------------------------------------------------------------------------

    def _extras(self, tick: Tick) -> list[Request]:
        cut = _Cut(self._cutting.max_series)
        if tick.dated is not None:
            self._add_dated(cut, tick.dated)
        for row in tick.histograms if self._cutting.histograms else ():
            self._add(cut, row.slot, length_delimited(b"\x1a", row.message), histograms=1)
        for one in tick.exemplars if self._cutting.exemplars else ():
            parts = one.labels.split(b"\xff")
            labels = list(zip(parts[0:-1:2], parts[1::2], strict=True))
            value = b"\x11" + _DOUBLE.pack(one.value) + b"\x18" + varint(one.timestamp_ms)
            self._add(cut, one.slot, value, exemplar=labels)
        return cut.finish()

    def _add_dated(self, cut: _Cut, dated: Dated) -> None:
        order = np.lexsort((dated.timestamps_ms, dated.slots))  # in the order of time within a series
        columns = (dated.slots[order].tolist(), dated.timestamps_ms[order].tolist(), dated.values[order].tolist())
        for slot, at_ms, value in zip(*columns, strict=True):
            self._add(cut, slot, sample(at_ms, value), samples=1)

    def _add(self, cut: _Cut, slot: int, content: bytes, **counts: int | Pairs) -> None:
        found = self._chunk(slot).pairs(slot % self._cutting.max_series)
        if found is not None:
            cut.add(found[0], found[1], content, **counts)  # type: ignore[arg-type]


class _Cut:
    """Series one by one, into requests of at most so many."""

    def __init__(self, max_series: int) -> None:
        self._max = max_series
        self._done: list[Request] = []
        self._begin()

    def _begin(self) -> None:
        self._symbols = Symbols()
        self._series: list[bytes] = []
        self._counts = [0, 0, 0]
        self._families: Tally = {}

    def add(
        self, pairs: Pairs, kind: int, content: bytes, *, samples: int = 0, histograms: int = 0,
        exemplar: Pairs | None = None,
    ) -> None:  # fmt: skip
        if exemplar is not None:
            content = length_delimited(b"\x22", self._symbols.label_references(exemplar) + content)
        metadata = b"\x2a\x02\x08" + bytes((kind,)) if kind else b""
        # Fields in the order of their numbers: samples 2, histograms 3, exemplars 4, metadata 5.
        self._series.append(length_delimited(b"\x2a", self._symbols.label_references(pairs) + content + metadata))
        for place, number in enumerate((samples, histograms, int(exemplar is not None))):
            self._counts[place] += number
        name = name_of(pairs).decode("utf-8", "replace")
        count, size = self._families.get(name, (0, 0))
        self._families[name] = count + samples + histograms, size + len(self._series[-1])
        if len(self._series) >= self._max:
            self._close()

    def _close(self) -> None:
        if self._series:
            body = bytes(self._symbols.encoded) + b"".join(self._series)
            samples, histograms, exemplars = self._counts
            self._done.append(Request(body, samples, histograms, exemplars, self._families))
        self._begin()

    def finish(self) -> list[Request]:
        self._close()
        return self._done


def _metric(pairs: Pairs, suffixes: tuple[bytes, ...]) -> bytes:
    """What a series and its `_created` have in common."""
    parts = []
    for name, value in pairs:
        if name == b"__name__":
            suffix = next((one for one in suffixes if value.endswith(one)), b"")
            parts.append(value[: len(value) - len(suffix)])
        elif name not in (b"le", b"quantile"):
            parts += (name, value)
    return b"\xff".join(parts)
