"""Remote write 2.0 bodies whose symbols came before, byte for byte: references mean the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence

from metering.gateway.foreign.loose import Loose
from metering.gateway.foreign.pushed import Pushed, SeriesNumbers
from metering.gateway.foreign.rw2_series import Span, is_usual_metadata, read_refs, read_series, resolve
from metering.gateway.foreign.skeleton import Skeleton
from metering.gateway.foreign.skeletons import Skeletons
from metering.gateway.foreign.walk import Samples, Walk

_SERIES = 0x2A
_KEPT_NAMES = 1024
_KEPT_METADATA = 1024  # of at most 127 bytes each
_HEAD = 64
_SHARE = 4  # of the series of a body: when more had to be read alone, its senders do not keep to an order


class Section:
    """The symbols in front of a body, and bodies that had them."""

    def __init__(self, symbols: bytes, texts: Sequence[str], skeleton: Skeleton) -> None:
        self.symbols = symbols
        self._texts = texts
        self._known: dict[bytes, int] = {}
        self._metadata: set[bytes] = set()  # contents that need not be read field by field
        self._skeletons = Skeletons(4 * skeleton.size_bytes)
        self._skeletons.add(skeleton)
        self.is_orderly = True

    @property
    def size_bytes(self) -> int:
        return 4 * len(self.symbols) + 70 * len(self._texts) + 250 * len(self._known) + self._skeletons.size_bytes

    def read(self, body: bytes, loose: Loose, numbers: SeriesNumbers) -> Pushed | None:
        """The columns of a body with these symbols; None when it goes on in another way than series. WireError."""
        walk = Walk(body)
        position, end = len(self.symbols), len(body)
        while position < end:
            if body[position] != _SERIES:
                return None
            size, start = body[position + 1], position + 2
            if size >= 0x80:
                high = body[start]
                if high >= 0x80:
                    return None
                size, start = size & 0x7F | high << 7, start + 1
            stop = start + size
            if stop > end:
                return None
            number = self._read_series(body, (position, start, stop), walk, loose, numbers)
            position = stop
            found = self._skeletons.find(number)
            if found:
                position = walk.follow(*found, position)
            loose.check_series(walk.series)
            loose.check_samples(walk.row_count)
        rows = walk.rows()
        self.is_orderly = walk.alone <= 8 + walk.series // _SHARE
        if walk.is_worth_keeping:
            self._skeletons.add(Skeleton(body, walk.series_of(rows)))
        return loose.join(rows)

    def _read_series(
        self, body: bytes, places: tuple[int, int, int], walk: Walk, loose: Loose, numbers: SeriesNumbers
    ) -> int:
        position, start, stop = places
        refs, metadata, samples = _usual_parts(body, start, stop, walk)
        if samples is None or not self._is_usual(metadata):
            walk.add_series(position, -1, [])
            return read_series(body, Span(start, stop), self._texts, numbers, loose)
        number = self._known.get(refs)
        if number is None:
            labels = resolve(read_refs(refs), self._texts)
            loose.check_labels(len(labels))
            number = numbers.number(labels)
            if number >= 0:
                self._known[refs] = number
        walk.add_series(position, number, samples)
        return number

    def _is_usual(self, metadata: bytes) -> bool:
        """Whether nobody need read this again. What was found so is kept: all series of a family say the same."""
        if metadata in self._metadata:
            return True
        is_usual = is_usual_metadata(metadata, len(self._texts))
        if is_usual and len(self._metadata) < _KEPT_METADATA:
            self._metadata.add(metadata)
        return is_usual


def _usual_parts(body: bytes, start: int, stop: int, walk: Walk) -> tuple[bytes, bytes, Samples | None]:
    """References, metadata (before the samples or behind) and samples of a series that holds nothing else."""
    if stop - start < 2 or body[start] != 0x0A or body[start + 1] >= 0x80:
        return b"", b"", None
    place = start + 2 + body[start + 1]
    refs, metadata = body[start + 2 : place], b""
    if place + 1 < stop and body[place] == 0x2A and body[place + 1] < 0x80:
        begin, place = place + 2, place + 2 + body[place + 1]
        metadata = body[begin:place]
    else:
        end, stop = stop, _without_metadata(body, place, stop)
        metadata = body[stop + 2 : end]
    if place >= stop or not refs or refs[-1] >= 0x80:
        return b"", b"", None
    return refs, metadata, walk.usual_samples(place, stop)


def _without_metadata(body: bytes, place: int, stop: int) -> int:
    """Where metadata begin behind one sample, or the end."""
    after = place + 2 + body[place + 1] if place + 1 < stop else stop
    if after + 1 < stop and body[after] == 0x2A and after + 2 + body[after + 1] == stop:
        return after
    return stop


class Sections:
    """Bounded by bytes: full, it begins again from empty. Not for concurrent use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[bytes, list[Section]] = {}  # by how their symbols begin
        self._came: dict[int, None] = {}  # hashes of symbols that came once, oldest first
        self.size_bytes = 0

    def find(self, body: bytes) -> Section | None:
        """A section that the body begins with."""
        for section in reversed(self._kept.get(body[:_HEAD], ())):
            size = len(section.symbols)
            if body.startswith(section.symbols) and body[size : size + 1] == b"\x2a":
                return section if section.is_orderly else None
        return None

    def is_worth_keeping(self, body: bytes, start: int) -> bool:
        """Whether the symbols of `body`, up to `start`, came before."""
        name = hash(body[:start])
        if name in self._came:
            return not any(body.startswith(one.symbols) for one in self._kept.get(body[:_HEAD], ()))
        self._came[name] = None
        if len(self._came) > _KEPT_NAMES:
            del self._came[next(iter(self._came))]
        return False

    def add(self, section: Section) -> None:
        """Keep a section."""
        size = section.size_bytes
        if size > self._max_bytes // 2:
            return
        if self.size_bytes + size > self._max_bytes:
            self._kept.clear()
            self.size_bytes = 0
        self._kept.setdefault(section.symbols[:_HEAD], []).append(section)
        self.size_bytes += size
