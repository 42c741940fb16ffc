"""Bodies read by the compiled kernel, in one pass, as they come; the strict parser sees what is new or odd."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.exposition import openmetrics, text
from collector.exposition.columns import Declared, Rows, names_of
from collector.exposition.errors import PageNeeded, SyntaxFault
from collector.exposition.lexing import OPENMETRICS, TEXT, Grammar, parse_key
from collector.exposition.numbering import NONE_NUMBERED, Numbered, Numbers
from collector.exposition.reading import (
    MOST_PARSED,
    NO_ROWS,
    SLICE,
    Floats,
    ParsedKey,
    Reading,
    grammar_of,
    retyped_families,
)
from collector.native import NewTable, Table

_NOTHING = Declared()
Scanned = tuple[bytes, list[tuple[bytes, int]], bytes | None]
Scan = Callable[[tuple[bytes, ...]], Scanned | None]  # the whole body, with keys of these names renewed


@dataclass(frozen=True, slots=True)
class TableKeys:
    """The keys of plain rows, whose numbers these are. Those that are not new are not kept: KeyError."""

    table: Table
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, row: int) -> bytes:
        return self.table.key(int(self.numbers[row]))

    def keys(self, rows: npt.NDArray[Any]) -> Iterator[bytes]:
        return map(self.table.key, self.numbers[rows].tolist())

    def release(self, row: int) -> None:
        with suppress(KeyError):
            self.table.release(int(self.numbers[row]))


@dataclass(slots=True)
class _Kept:
    """The last kept reading, as far as the next one is compared with it here."""

    numbered: Numbered = NONE_NUMBERED
    declared: Declared | None = None
    odd: tuple[object, ...] = ([], [], set(), set())


class NativeStream:
    """A body that is read as it comes, in place of `NativeReader.read`."""

    def __init__(self, reader: NativeReader, grammar: Grammar) -> None:
        self._reader = reader
        self._grammar = grammar
        self._is_good = True

    def add(self, piece: memoryview) -> None:
        """The next bytes; the piece is not used after."""
        try:
            self._is_good = self._is_good and self._reader.table.feed(piece)
        except (MemoryError, RuntimeError):
            self._is_good = False

    def finish(self) -> Reading:
        """The rows of the body, once it is whole. Raises PageNeeded; then nothing of it counts."""
        reading = None
        if self._is_good:
            with suppress(SyntaxFault):
                reading = self._reader.scanned(self._reader.table.scanned(), self._grammar, None)
        self._reader.is_plain = reading is not None
        if reading is None:
            raise PageNeeded("the strict parser has to look at all of it")
        return reading


class NativeReader:
    """Reads the bodies of one target, and remembers the keys of the last one that was kept."""

    def __init__(self, new_table: NewTable) -> None:
        self.table = new_table(secrets.token_bytes(16))
        self.is_plain = True  # the last body needed no strict parser for all of it
        self._grammar = TEXT
        self._kept = _Kept()
        self._odd: frozenset[bytes] = frozenset()  # keys of odd rows of the last kept reading

    def stream(self, content_type: str) -> NativeStream | None:
        """What takes the next body piece by piece; None: it is better read whole."""
        if not self.is_plain:
            return None
        grammar = grammar_of(content_type)
        self._begin(grammar)
        self.table.begin(grammar is OPENMETRICS)
        return NativeStream(self, grammar)

    def read(self, body: bytearray, content_type: str) -> Reading:
        grammar = grammar_of(content_type)
        self._begin(grammar)

        def scan(renewed: tuple[bytes, ...]) -> Scanned | None:
            self.table.begin(grammar is OPENMETRICS, renewed)
            return self.table.scanned() if self.table.feed(body) else None

        reading = None
        with suppress(SyntaxFault):
            reading = self.scanned(scan(()), grammar, scan)
        self.is_plain = reading is not None
        if reading is not None:
            return reading
        parse = openmetrics.parse_openmetrics if grammar is OPENMETRICS else text.parse_text
        return self.take(parse(bytes(body), self._odd), grammar)

    def take(self, rows: Rows, grammar: Grammar = TEXT) -> Reading:
        self._begin(grammar)

        def scan(renewed: tuple[bytes, ...]) -> None:
            self.table.begin(grammar is OPENMETRICS, renewed)

        scan(())
        return self._reading(b"", rows, range(len(rows.keys)), rows.declared, grammar, scan)

    def keep(self, reading: Reading) -> None:
        self.table.keep()
        numbered = Numbered(reading.numbered.rows, NO_ROWS, NO_ROWS, reading.numbered.limit)
        self._kept = _Kept(numbered, reading.declared, _odd_facts(reading))
        self._odd = frozenset(reading.odd_keys)
        reading.fresh, reading.parsed = NO_ROWS, {}

    def _begin(self, grammar: Grammar) -> None:
        if grammar is not self._grammar:
            self._grammar, self._odd = grammar, frozenset()  # a key that one format allows, the other may not

    def scanned(self, found: Scanned | None, grammar: Grammar, rescan: Scan | None) -> Reading | None:
        """What the table found in a body. None: the strict parser has to look at it. Raises SyntaxFault, for the
        same; PageNeeded, when a `rescan` is needed and there is none.
        """
        if found is None:
            return None
        values, odd_lines, comments = found
        declared = self._kept.declared if comments is None else _declared(comments, grammar)
        assert declared is not None  # comments are kept with what they say
        odd = Rows()
        for line, _ in odd_lines:
            _read_odd(line, odd, self._odd, grammar)
        if odd.declared != _NOTHING or len(odd.keys) != len(odd_lines):
            return None  # a comment behind blanks, or a line of blanks
        return self._reading(values, odd, [place for _, place in odd_lines], declared, grammar, rescan)

    def _parse_unchecked(self, grammar: Grammar) -> Mapping[bytes, ParsedKey]:
        """Keys that the kernel did not check; if they are few, they stay parsed for whoever asks next.

        Raises SyntaxFault.
        """
        parsed: dict[bytes, ParsedKey] = {}
        first = 0
        while keys := self.table.unchecked(first, first + SLICE):
            first += len(keys)
            if first > MOST_PARSED:
                parsed = {}
            for key in keys:
                found = parse_key(key, grammar)
                if first <= MOST_PARSED:
                    parsed[key] = found
        return parsed

    def _reading(
        self,
        values: bytes,
        odd: Rows,
        places: range | list[int],
        declared: Declared,
        grammar: Grammar,
        rescan: Scan | None,
    ) -> Reading:
        retyped = self._add_odd(odd, declared, rescan)
        floats: Floats = np.frombuffer(values, np.float64)
        plain = len(floats)
        reading = Reading(
            TableKeys(self.table, NO_ROWS),
            np.concatenate([floats, np.array(odd.values, np.float64)]) if odd.keys else floats,
            True, NO_ROWS, odd.keys, places, declared, self._grammar, None,
            {plain + row: at for row, at in odd.timestamps.items()},
            {plain + row: some for row, some in odd.exemplars.items()},
            {plain + row: one for row, one in odd.histograms.items()},
            self._parse_unchecked(grammar),
            created={plain + row: at for row, at in odd.created.items()},
        )  # fmt: skip
        is_same = not retyped and _odd_facts(reading) == self._kept.odd
        self._number(reading, self.table.rows(is_same), plain)
        return reading

    def _add_odd(self, odd: Rows, declared: Declared, rescan: Scan | None) -> bool:
        """The odd rows behind the plain ones; whether a family has another type than before. Raises PageNeeded."""
        for key in odd.keys:
            self.table.add(key)
        retyped = retyped_families(self._kept.declared.types if self._kept.declared else {}, declared.types)
        if not retyped:
            return False
        names = (*(name.encode() for family in retyped for name in names_of(family)), b"")
        if self.table.has_met(names):
            if rescan is None:
                raise PageNeeded("a family has another type than before")
            rescan(names)
            for key in odd.keys:
                self.table.add(key)
        return True

    def _number(self, reading: Reading, rows: tuple[bytes, bytes, bytes, bytes, int] | None, plain: int) -> None:
        if rows is None:
            reading.numbered = self._kept.numbered
        else:
            numbers, fresh, born, gone = (np.frombuffer(part, np.int32) for part in rows[:4])
            reading.numbered = Numbered(numbers, born, gone, rows[4])
            reading.is_same, reading.fresh = False, fresh
        reading.column = TableKeys(self.table, reading.numbered.rows[:plain])


def _odd_facts(reading: Reading) -> tuple[object, ...]:
    """What makes odd rows the same from body to body; their values and times do not."""
    return list(reading.odd_keys), list(reading.places), set(reading.timestamps), set(reading.histograms)


def _read_odd(line: bytes, rows: Rows, known: frozenset[bytes], grammar: Grammar) -> None:
    if grammar is OPENMETRICS:
        openmetrics.read_line(line, known, rows)
    elif not text.read_known_line(line, known, rows):
        text.read_line(line, rows)


def _declared(comments: bytes, grammar: Grammar) -> Declared:
    """What the comment lines declare. Raises SyntaxFault."""
    read = openmetrics.read_comment if grammar is OPENMETRICS else text.read_comment
    rows = Rows()
    for line in comments.split(b"\n") if comments else ():
        rows.declare(read(line))
    return rows.declared
