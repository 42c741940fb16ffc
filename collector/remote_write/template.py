"""Requests of remote write 2.0 from byte templates: one for each 2,000 slots of a stream or so.

A template is a whole request with room for values and times: symbols, then a TimeSeries for each series, its sample
last. A scrape writes its values into the room with two numpy scatters. A series that comes or goes changes its own
piece; the template is then joined again from its pieces, which costs what joining bytes costs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from collector.wire.varint import length_delimited, varint

Pairs = list[tuple[bytes, bytes]]
Bytes = npt.NDArray[np.uint8]
Tally = dict[str, tuple[int, int]]  # by metric name: samples, and bytes of the request
_SPARE_NAMES = 100
_TYPES = {0: b"", **{kind: b"\x2a\x02\x08" + bytes((kind,)) for kind in range(1, 8)}}  # Metadata.type
_PLAIN = b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6)
_STARTED = b"\x12\x17\x09" + bytes(8) + b"\x10" + bytes(6) + b"\x18" + bytes(6)
_PLAIN_AT = (15, 6)  # where value and time begin, counted from the end of a piece
_STARTED_AT = (22, 13)


class Symbols:
    """Texts by reference, the first one empty as the specification demands. It only grows; `Chunk` begins anew."""

    def __init__(self) -> None:
        self.references: dict[bytes, bytes] = {b"": b"\x00"}
        self.encoded = bytearray(b"\x22\x00")

    def reference(self, text: bytes) -> bytes:
        """The varint of a text's reference."""
        known = self.references.get(text)
        if known is None:
            known = self.references[text] = varint(len(self.references))
            self.encoded += length_delimited(b"\x22", text)
        return known

    def label_references(self, pairs: Pairs) -> bytes:
        """A packed field `labels_refs = 1`."""
        return length_delimited(
            b"\x0a", b"".join([self.reference(name) + self.reference(value) for name, value in pairs])
        )


class Families:
    """The metric name of each slot, by number."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._of_slot = np.zeros(0, np.int32)

    def put(self, slot: int, pairs: Pairs) -> None:
        """A series took the slot."""
        if slot >= len(self._of_slot):
            self._of_slot = np.concatenate([self._of_slot, np.zeros(slot + 256 - len(self._of_slot), np.int32)])
        self._of_slot[slot] = self._numbers.setdefault(name_of(pairs), len(self._numbers))

    def tally(self, slots: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Tally:
        """Of series in these slots with pieces of these lengths."""
        numbers = self._of_slot[slots]
        counts = np.bincount(numbers, minlength=len(self._numbers)).tolist()
        sizes = np.bincount(numbers, weights=lengths, minlength=len(self._numbers)).tolist()
        found = {
            name.decode("utf-8", "replace"): (count, int(size))
            for name, count, size in zip(self._numbers, counts, sizes, strict=True)
            if count
        }
        if len(self._numbers) > 2 * len(found) + _SPARE_NAMES:  # names that are gone go too
            self._renumber()
        return found

    def _renumber(self) -> None:
        used, numbers = np.unique(self._of_slot, return_inverse=True)
        self._of_slot = numbers.astype(np.int32)
        names = list(self._numbers)
        self._numbers = {names[number]: place for place, number in enumerate(used.tolist())}


def name_of(pairs: Pairs) -> bytes:
    """The metric's name, as the ledger has it."""
    return next((value for name, value in pairs if name == b"__name__"), b"")


class Chunk:
    """The series of a fixed range of slots, each a piece of the template. Slots count from 0 here."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []  # type and labels as in frames; empty: no series
        self._pieces: list[bytes] = []
        self._is_started = bytearray()
        self._families = Families()
        self._symbols = Symbols()
        self._live_symbols = 0  # of all pieces, each counted: bounds what the table may hold
        self._template: Bytes | None = None
        self._rows = np.empty(0, np.int64)  # slots of the template, in order
        self._ends = np.empty(0, np.int64)
        self._started = np.empty(0, np.bool_)

    def put(self, slot: int, pairs: Pairs, kind: int, *, started: bool) -> None:
        """A series takes a slot. `started`: its samples carry a start timestamp."""
        missing = slot + 1 - len(self._pieces)
        if missing > 0:
            self._entries += [b""] * missing
            self._pieces += [b""] * missing
            self._is_started += bytes(missing)
        self.clear(slot)
        self._entries[slot] = entry_of(pairs, kind)
        self._pieces[slot] = self._piece(pairs, kind, started=started)
        self._is_started[slot] = started
        self._families.put(slot, pairs)
        self._live_symbols += 2 * len(pairs)

    def clear(self, slot: int) -> None:
        """The series of a slot is gone."""
        self._template = None
        entry = self._entries[slot] if slot < len(self._entries) else b""
        if entry:
            self._live_symbols -= entry.count(b"\xff")
            self._entries[slot], self._pieces[slot] = b"", b""

    def pairs(self, slot: int) -> tuple[Pairs, int] | None:
        """Labels and type of a slot's series."""
        entry = self._entries[slot] if slot < len(self._entries) else b""
        return pairs_of(entry) if entry else None

    def encode(self, values: npt.NDArray[np.float64], at_ms: int, present: npt.NDArray[np.bool_],
               starts_ms: npt.NDArray[np.int64] | None = None) -> tuple[bytes, Tally]:  # fmt: skip
        """A request of the present slots, and what is in it. Arrays are by slot, as long as the chunk.

        `starts_ms`: start timestamps, 0 where there is none.
        """
        template = self._template if self._template is not None else self._join()
        rows, ends, started = self._rows, self._ends, self._started
        chosen = present[rows]
        count = int(np.count_nonzero(chosen))
        if not count:
            return b"", {}
        lengths = np.diff(ends, prepend=int(ends[0]) - len(self._pieces[int(rows[0])]))
        tally = self._families.tally(rows[chosen], lengths[chosen])
        request = template.copy()
        time = np.frombuffer(wide_varint(at_ms), np.uint8)
        for is_started, (value_at, time_at) in ((False, _PLAIN_AT), (True, _STARTED_AT)):
            here = started == is_started
            if not here.any():
                continue
            stops = ends[here]
            bits = np.ascontiguousarray(values[rows[here]]).view(np.uint8).reshape(-1, 8)
            request[(stops - value_at)[:, None] + np.arange(8)] = bits
            request[(stops - time_at)[:, None] + np.arange(6)] = time
            if is_started and starts_ms is not None:
                request[(stops - 6)[:, None] + np.arange(6)] = wide_varints(starts_ms[rows[here]])
        if count < len(rows):
            begin = int(ends[0] - lengths[0])
            kept = np.concatenate([np.ones(begin, np.bool_), np.repeat(chosen, lengths)])
            request = request[kept]
        return request.tobytes(), tally

    def _join(self) -> Bytes:
        if len(self._symbols.references) > self._live_symbols + 100 or len(self._symbols.encoded) > 400_000:
            self._begin_symbols()
        symbols = bytes(self._symbols.encoded)
        joined = symbols + b"".join(self._pieces)
        lengths = np.fromiter(map(len, self._pieces), np.int64, len(self._pieces))
        self._rows = np.flatnonzero(lengths)
        self._ends = len(symbols) + np.cumsum(lengths)[self._rows]
        self._started = np.frombuffer(bytes(self._is_started), np.bool_)[self._rows]
        self._template = np.frombuffer(joined, np.uint8)
        return self._template

    def _begin_symbols(self) -> None:
        """Texts of series that are gone go too."""
        self._symbols = Symbols()
        for slot, entry in enumerate(self._entries):
            if entry:
                pairs, kind = pairs_of(entry)
                self._pieces[slot] = self._piece(pairs, kind, started=bool(self._is_started[slot]))

    def _piece(self, pairs: Pairs, kind: int, *, started: bool) -> bytes:
        sample = _STARTED if started else _PLAIN
        return length_delimited(b"\x2a", self._symbols.label_references(pairs) + _TYPES.get(kind, b"") + sample)


def wide_varint(value: int) -> bytes:
    """Six bytes always: what dates from 1971 to 2109 take in ms; smaller ones are padded, which decoders allow."""
    if not 0 <= value < 1 << 42:
        raise ValueError(f"{value} ms lies outside of 1970 to 2109")
    return bytes([(value >> 7 * place) & 0x7F | (0x80 if place < 5 else 0) for place in range(6)])


def wide_varints(values: npt.NDArray[np.int64]) -> Bytes:
    """The same for many, shape (n, 6); what lies outside becomes 0."""
    inside = np.where((values >= 0) & (values < 1 << 42), values, 0)
    parts = (inside[:, None] >> (7 * np.arange(6))) & 0x7F
    parts[:, :5] |= 0x80
    return parts.astype(np.uint8)


def pairs_of(entry: bytes) -> tuple[Pairs, int]:
    """Labels and type of an entry of a frame's dictionary."""
    parts = entry[1:].split(b"\xff")
    return list(zip(parts[0:-1:2], parts[1::2], strict=True)), entry[0]


def entry_of(pairs: Pairs, kind: int) -> bytes:
    """The other way."""
    return bytes((kind,)) + b"".join([b"%b\xff%b\xff" % pair for pair in pairs])
