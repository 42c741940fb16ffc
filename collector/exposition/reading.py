"""What is read from a body: rows, and which of them were there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from collector.exposition.columns import Declared, MetricType, RawExemplar, Rows
from collector.exposition.lexing import OPENMETRICS, TEXT, Grammar, parse_key
from collector.exposition.numbering import NONE_NUMBERED, Numbered

ParsedKey = tuple[str, dict[str, str]]
Floats = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.int32]
MOST_PARSED = 5_000  # new keys are kept parsed, a kilobyte each: more, and they are parsed twice
SLICE = 5_000  # rows that are objects at a time
MOST_RETYPED = 50  # families that change their type at once before every key counts as new
NO_ROW = -1
NO_ROWS: RowNumbers = np.empty(0, np.int32)


class Keys(Protocol):
    """The keys of plain rows, in their order."""

    def __len__(self) -> int: ...

    def key(self, row: int) -> bytes: ...

    def keys(self, rows: npt.NDArray[Any]) -> Iterator[bytes]:
        """The keys of some rows; far quicker than one by one."""

    def release(self, row: int) -> None:
        """The keys of this fresh row, and of those before it, are not asked for again."""


@dataclass(slots=True)
class Reading:
    """The rows of a body: first the plain ones, in their order, then the odd ones, in theirs.

    `is_same`: the rows are those of the last kept reading, one by one. `fresh`: every row whose key the last kept
    reading does not have. `places`: where in the body each odd row stands, counted in rows. Maps are by row.

    `numbered`: the number of each row's key, the same from reading to reading. Rows of one number have one key; a
    key that a body has twice may have two. A fresh row has a number that is born, or that of another row.
    """

    column: Keys
    values: Floats
    is_same: bool
    fresh: RowNumbers
    odd_keys: Sequence[bytes]
    places: Sequence[int]
    declared: Declared
    grammar: Grammar
    comments: bytes | None
    timestamps: Mapping[int, int] = field(default_factory=dict)
    exemplars: Mapping[int, Sequence[RawExemplar]] = field(default_factory=dict)
    histograms: Mapping[int, bytes] = field(default_factory=dict)
    parsed: Mapping[bytes, ParsedKey] = field(default_factory=dict)
    collisions: int = 0
    numbered: Numbered = NONE_NUMBERED
    created: Mapping[int, int] = field(default_factory=dict)  # ms when what is counted began

    @property
    def types(self) -> Mapping[str, MetricType]:
        """Of families."""
        return self.declared.types

    def parse(self, key: bytes) -> ParsedKey:
        """Name and labels of a key of this reading."""
        return self.parsed.get(key) or parse_key(key, self.grammar)

    def __len__(self) -> int:
        return len(self.values)

    def key(self, row: int) -> bytes:
        plain = len(self.column)
        return self.column.key(row) if row < plain else self.odd_keys[row - plain]

    def keys(self, rows: RowNumbers) -> Iterator[bytes]:
        """The keys of some rows, which ascend."""
        plain = len(self.column)
        first_odd = int(np.searchsorted(rows, plain))
        yield from self.column.keys(rows[:first_odd])
        yield from (self.odd_keys[row - plain] for row in rows[first_odd:].tolist())

    def release(self, rows: RowNumbers) -> None:
        """The keys of these fresh rows, and of the fresh rows before them, are not asked for again."""
        first_odd = int(np.searchsorted(rows, len(self.column)))
        if first_odd and len(self.numbered.born) == len(self.fresh):  # else a later row may have one of these keys
            self.column.release(int(rows[first_odd - 1]))

    def order(self) -> npt.NDArray[np.int64] | None:
        """The place of each row in the body; None: as they are numbered."""
        if not self.places:
            return None
        places = np.array(self.places, np.int64)
        is_plain = np.ones(len(self), np.bool_)
        is_plain[places] = False
        return np.concatenate([np.flatnonzero(is_plain), places])


class PageStream(Protocol):
    """A body that is read as it comes."""

    def add(self, piece: memoryview, /) -> None:
        """The next bytes; the piece is not used after."""

    def finish(self) -> Reading:
        """The rows, once the body is whole. Raises PageNeeded: have it read whole; nothing of this one counts."""


class Reader(Protocol):
    """Reads the bodies of one target, and remembers the keys of the last one that was kept."""

    def read(self, body: bytearray, content_type: str) -> Reading:
        """The rows of a body, by its Content-Type (anything but OpenMetrics is read as text 0.0.4).

        `body` may be used as scratch space; it is as it was when this returns. Raises ExpositionError; then nothing
        of the body counts.
        """

    def stream(self, content_type: str) -> PageStream | None:
        """What takes the next body piece by piece, in place of `read`; None: it has to be read whole."""

    def take(self, rows: Rows, grammar: Grammar = TEXT) -> Reading:
        """Rows that were read one by one, whose keys are spelled in this grammar."""

    def keep(self, reading: Reading) -> None:
        """The next body is compared with this one, which is the last that was read."""


def grammar_of(content_type: str) -> Grammar:
    """Which text format a Content-Type names."""
    media = content_type.partition(";")[0].strip().lower()
    return OPENMETRICS if media == "application/openmetrics-text" else TEXT


def retyped_families(old: Mapping[str, MetricType], new: Mapping[str, MetricType]) -> set[str]:
    """Families whose type is another than in the last body."""
    return set() if old is new else {name for name in {*old, *new} if old.get(name) != new.get(name)}
