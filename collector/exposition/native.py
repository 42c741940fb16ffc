"""Bodies read by the compiled kernel, in one pass; the strict parser sees what is new or odd."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.exposition import openmetrics, text
from collector.exposition.columns import MetricType, Rows
from collector.exposition.errors import SyntaxFault
from collector.exposition.lexing import OPENMETRICS, TEXT, Grammar, parse_key
from collector.exposition.numbering import NONE_NUMBERED, Numbered, Numbers
from collector.exposition.reading import (
    MOST_PARSED,
    MOST_RETYPED,
    NO_ROWS,
    SLICE,
    Floats,
    ParsedKey,
    Reading,
    grammar_of,
    retyped_families,
)
from collector.native import NewTable, Table

_EOF = (openmetrics.EOF + b"\n", openmetrics.EOF)
_NO_FLOATS: Floats = np.empty(0)


@dataclass(frozen=True, slots=True)
class TableKeys:
    """The keys of plain rows, whose numbers these are."""

    table: Table
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, row: int) -> bytes:
        return self.table.key(int(self.numbers[row]))

    def keys(self, rows: npt.NDArray[Any]) -> Iterator[bytes]:
        return map(self.table.key, self.numbers[rows].tolist())


@dataclass(slots=True)
class _Kept:
    """The last kept reading, as far as the next one is compared with it here."""

    numbered: Numbered = NONE_NUMBERED
    types: Mapping[str, MetricType] | None = None
    odd: tuple[object, ...] = ([], [], set(), set())


class NativeReader:
    """Reads the bodies of one target, and remembers the keys of the last one that was kept."""

    def __init__(self, new_table: NewTable) -> None:
        self._table = new_table(secrets.token_bytes(16))
        self._grammar = TEXT
        self._kept = _Kept()
        self._odd: frozenset[bytes] = frozenset()  # keys of odd rows of the last kept reading

    def read(self, body: bytearray, content_type: str) -> Reading:
        grammar = grammar_of(content_type)
        self._begin(grammar)
        end = _end_of_rows(body, grammar)
        try:
            reading = None if end is None else self._read_lines(body, end, grammar)
        except SyntaxFault:
            reading = None
        if reading is not None:
            return reading
        parse = openmetrics.parse_openmetrics if grammar is OPENMETRICS else text.parse_text
        return self.take(parse(bytes(body), self._odd), grammar)

    def take(self, rows: Rows, grammar: Grammar = TEXT) -> Reading:
        self._begin(grammar)
        self._table.begin(grammar is OPENMETRICS)
        return self._reading(_NO_FLOATS, rows, range(len(rows.keys)), rows.types, {})

    def keep(self, reading: Reading) -> None:
        self._table.keep()
        numbered = Numbered(reading.numbered.rows, NO_ROWS, NO_ROWS, reading.numbered.limit)
        self._kept = _Kept(numbered, reading.types, _odd_facts(reading))
        self._odd = frozenset(reading.odd_keys)
        reading.fresh, reading.parsed = NO_ROWS, {}

    def _begin(self, grammar: Grammar) -> None:
        if grammar is not self._grammar:
            self._grammar, self._odd = grammar, frozenset()  # a key that one format allows, the other may not

    def _read_lines(self, body: bytearray, end: int, grammar: Grammar) -> Reading | None:
        """None: the strict parser has to look at it. Raises SyntaxFault, for the same."""
        found = self._table.scan(body, end, grammar is OPENMETRICS)
        if found is None:
            return None
        values, odd_lines, comments = found
        types = self._kept.types if comments is None else _declared(comments, grammar)
        assert types is not None  # comments are kept with their types
        odd = Rows()
        for at, size, _ in odd_lines:
            _read_odd(bytes(memoryview(body)[at : at + size]), odd, self._odd, grammar)
        if odd.types or len(odd.keys) != len(odd_lines):
            return None  # a comment behind blanks, or a line of blanks
        parsed = self._parse_unchecked(grammar)
        return self._reading(
            np.frombuffer(values, np.float64), odd, [place for _, _, place in odd_lines], types, parsed
        )

    def _parse_unchecked(self, grammar: Grammar) -> Mapping[bytes, ParsedKey]:
        """Keys that the kernel did not check; if they are few, they stay parsed for whoever asks next.

        Raises SyntaxFault.
        """
        parsed: dict[bytes, ParsedKey] = {}
        first = 0
        while keys := self._table.unchecked(first, first + SLICE):
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
        values: Floats,
        odd: Rows,
        places: range | list[int],
        types: Mapping[str, MetricType],
        parsed: Mapping[bytes, ParsedKey],
    ) -> Reading:
        plain = len(values)
        for key in odd.keys:
            self._table.add(key)
        reading = Reading(
            TableKeys(self._table, NO_ROWS),
            np.concatenate([values, np.array(odd.values, np.float64)]) if odd.keys else values,
            None, NO_ROWS, odd.keys, places, types, self._grammar, None,
            {plain + row: at for row, at in odd.timestamps.items()},
            {plain + row: some for row, some in odd.exemplars.items()},
            {plain + row: one for row, one in odd.histograms.items()},
            parsed,
            created={plain + row: at for row, at in odd.created.items()},
        )  # fmt: skip
        retyped = retyped_families(self._kept.types or {}, types)
        if len(retyped) > MOST_RETYPED:
            self._table.renew((b"",))
        elif retyped:
            self._table.renew((*(name.encode() for name in retyped), b"{"))
        is_same = not retyped and _odd_facts(reading) == self._kept.odd
        self._number(reading, self._table.rows(is_same), plain)
        return reading

    def _number(self, reading: Reading, rows: tuple[bytes, bytes, bytes, bytes, int] | None, plain: int) -> None:
        if rows is None:
            reading.numbered = self._kept.numbered
        else:
            numbers, previous, born, gone = (np.frombuffer(part, np.int32) for part in rows[:4])
            reading.numbered = Numbered(numbers, born, gone, rows[4])
            reading.previous = previous
            reading.fresh = np.flatnonzero(previous < 0).astype(np.int32)
        reading.column = TableKeys(self._table, reading.numbered.rows[:plain])


def _odd_facts(reading: Reading) -> tuple[object, ...]:
    """What makes odd rows the same from body to body; their values and times do not."""
    return list(reading.odd_keys), list(reading.places), set(reading.timestamps), set(reading.histograms)


def _read_odd(line: bytes, rows: Rows, known: frozenset[bytes], grammar: Grammar) -> None:
    if grammar is OPENMETRICS:
        openmetrics.read_line(line, known, rows)
    elif not text.read_known_line(line, known, rows):
        text.read_line(line, rows)


def _declared(comments: bytes, grammar: Grammar) -> Mapping[str, MetricType]:
    """The types that the comment lines declare. Raises SyntaxFault."""
    read = openmetrics.read_comment if grammar is OPENMETRICS else text.read_comment
    rows = Rows()
    for line in comments.split(b"\n") if comments else ():
        rows.declare(read(line))
    return rows.types


def _end_of_rows(body: bytearray, grammar: Grammar) -> int | None:
    """Where the rows end, before # EOF; None: it is not there, which the strict parser has to say."""
    if grammar is TEXT:
        return len(body)
    for ending in _EOF:
        end = len(body) - len(ending)
        if body.endswith(ending) and (end == 0 or body[end - 1] == 10):
            return end
    return None
