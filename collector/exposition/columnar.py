"""Bodies read by column: what a target says again costs no look at its text.

`pyarrow.csv` cuts the body into keys and numbers. A line that is not just a key, one space and a number goes to the
strict parser of its format, line by line; and so does the whole body when anything about it is unusual. The strict
parser is the reference: this reader accepts what it accepts and gives the same bits (`test_columnar`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from collector.exposition import openmetrics, text
from collector.exposition.columns import Declared, Rows
from collector.exposition.comments import Comments, blank_comments
from collector.exposition.errors import SyntaxFault
from collector.exposition.finite import check_not_finite, count_newlines
from collector.exposition.key_column import KeyColumn, Memory
from collector.exposition.keys import KeyMatcher, Matched
from collector.exposition.lexing import OPENMETRICS, TEXT, Grammar, parse_key
from collector.exposition.numbering import Numbering
from collector.exposition.plain_lines import end_of_rows, read_pieces
from collector.exposition.reading import (
    MOST_PARSED,
    MOST_RETYPED,
    NO_ROW,
    NO_ROWS,
    SLICE,
    ParsedKey,
    Reading,
    RowNumbers,
    grammar_of,
    retyped_families,
)

_WIDEST_STRIDE = 32
_MOST_COLLISIONS = 0.005  # of the rows; more, and marks are made of more bytes


class ColumnReader:
    """Reads the bodies of one target, and remembers the keys of the last one that was kept."""

    def __init__(self) -> None:
        self._last = _nothing(TEXT)
        self._column = KeyColumn.empty()
        self._odd: dict[bytes, int] = {}  # key of an odd row -> its row in the last kept reading
        self._spare: Memory | None = None
        self._stride = _WIDEST_STRIDE
        self._numbering = Numbering()

    def read(self, body: bytearray, content_type: str) -> Reading:
        grammar = grammar_of(content_type)
        self._begin(grammar)
        reading = self._read_columns(body, grammar)
        if reading is not None:
            return reading
        parse = openmetrics.parse_openmetrics if grammar is OPENMETRICS else text.parse_text
        return self.take(parse(bytes(body), self._odd), grammar)

    def stream(self, content_type: str) -> None:
        """The columns are of whole bodies."""

    def keep(self, reading: Reading) -> None:
        if reading.is_same:
            self._last.comments, self._last.declared = reading.comments, reading.declared
            return
        assert isinstance(reading.column, KeyColumn)
        if reading.column is not self._column:
            self._spare = self._column.memory
        if reading.collisions > _MOST_COLLISIONS * len(reading) and self._stride > 8:
            self._stride //= 2
            reading.column = replace(reading.column, marks=None)
        self._last, self._column = reading, reading.column
        self._numbering.keep(reading.numbered)
        reading.fresh, reading.parsed = NO_ROWS, {}
        plain = len(reading.column)
        self._odd = {key: plain + row for row, key in enumerate(reading.odd_keys)}

    def _begin(self, grammar: Grammar) -> None:
        if grammar is not self._last.grammar:
            self._last, self._column = _nothing(grammar), KeyColumn.empty()
            self._odd = {}  # a key that one format allows, the other may not

    def take(self, rows: Rows, grammar: Grammar = TEXT) -> Reading:
        self._begin(grammar)
        column = KeyColumn.empty()
        values = np.array(rows.values, np.float64)
        reading = Reading(
            column, values, False, NO_ROWS, rows.keys, range(len(rows.keys)), rows.declared, grammar, None,
            rows.timestamps, rows.exemplars, rows.histograms, created=rows.created,
        )  # fmt: skip
        return self._compared(reading, NO_ROWS)

    def _read_columns(self, body: bytearray, grammar: Grammar) -> Reading | None:
        """None: the strict parser has to look at it."""
        end = end_of_rows(body, grammar)
        if end is None:
            return None
        newlines = count_newlines(body, end) if grammar is OPENMETRICS else 0
        comments = blank_comments(body, end)
        try:
            return self._read_rows(body, end, comments, newlines, grammar)
        except (SyntaxFault, pa.ArrowInvalid):
            return None
        finally:
            comments.put_back(body)

    def _read_rows(
        self, body: bytearray, end: int, comments: Comments, newlines: int, grammar: Grammar
    ) -> Reading | None:
        declared = self._declared(comments, grammar)
        odd_lines: list[tuple[int, str]] = []
        matcher = KeyMatcher(self._column, self._spare, self._stride, size=end)
        values = read_pieces(body, end, odd_lines, matcher)
        if grammar is OPENMETRICS and newlines != len(values) + len(odd_lines) + len(comments.lines()):
            return None  # an empty line
        check_not_finite(body, end, values, [number for number, _ in odd_lines], b"\t" if grammar is TEXT else b"")
        odd = Rows()
        for _, line in odd_lines:
            self._read_odd(line.encode(), odd, grammar)
        if odd.declared != Declared() or len(odd.keys) != len(odd_lines):
            return None  # a comment behind blanks, or a line of blanks
        matched = matcher.finish()
        parsed = _parse_keys(matched, grammar)
        plain = len(values)
        reading = Reading(
            matched.column,
            np.concatenate([values, np.array(odd.values, np.float64)]) if odd.keys else values,
            matched.previous is None, matched.fresh, odd.keys, [number - 1 for number, _ in odd_lines], declared,
            grammar, comments.text(),
            {plain + row: at for row, at in odd.timestamps.items()},
            {plain + row: some for row, some in odd.exemplars.items()},
            parsed=parsed, collisions=matched.collisions,
        )  # fmt: skip
        return self._compared(reading, matched.previous)

    def _read_odd(self, line: bytes, rows: Rows, grammar: Grammar) -> None:
        if grammar is OPENMETRICS:
            openmetrics.read_line(line, self._odd, rows)
        elif not text.read_known_line(line, self._odd, rows):
            text.read_line(line, rows)

    def _declared(self, comments: Comments, grammar: Grammar) -> Declared:
        """What the comments declare. Raises SyntaxFault."""
        if self._last.comments is not None and comments.text() == self._last.comments:
            return self._last.declared
        read = openmetrics.read_comment if grammar is OPENMETRICS else text.read_comment
        rows = Rows()
        for line in comments.lines():
            rows.declare(read(line))
        return rows.declared

    def _compared(self, reading: Reading, of_plain: RowNumbers | None) -> Reading:
        """Number the rows. `of_plain`: which row of the last kept reading each plain one was, but for what was odd
        or is retyped (NO_ROW: none; None: they are the same).
        """
        retyped = retyped_families(self._last.types, reading.types)
        if of_plain is None and not retyped and self._has_same_odd_rows(reading):
            reading.numbered = self._numbering.last
            return reading
        plain = len(reading.column)
        of_plain = np.arange(plain, dtype=np.int32) if of_plain is None else of_plain
        of_odd = [self._odd.get(key, NO_ROW) for key in reading.odd_keys]
        previous = np.concatenate([of_plain, np.array(of_odd, np.int32)])
        if self._odd:
            for row in reading.fresh.tolist():
                previous[row] = self._odd.get(reading.key(row), NO_ROW)
        _forget(previous, retyped, reading)
        reading.is_same = False
        reading.fresh = np.flatnonzero(previous < 0).astype(np.int32)
        reading.numbered = self._numbering.follow(previous)
        return reading

    def _has_same_odd_rows(self, reading: Reading) -> bool:
        last = self._last
        return (
            len(self._numbering.last.rows) == len(last)  # not so after a change of format
            and list(reading.odd_keys) == list(last.odd_keys)
            and list(reading.places) == list(last.places)
            and reading.timestamps.keys() == last.timestamps.keys()
            and reading.histograms.keys() == last.histograms.keys()
        )


def _forget(previous: RowNumbers, retyped: set[str], reading: Reading) -> None:
    """Rows whose key may belong to one of these families count as new: what was decided about them hung on it."""
    if not retyped:
        return
    starts = (*(name.encode() for name in retyped), b"{")
    if len(retyped) > MOST_RETYPED:
        previous[:] = NO_ROW
        return
    from pyarrow import compute as pc  # 7 MB that most collectors never need

    plain = len(reading.column)
    assert isinstance(reading.column, KeyColumn)
    keys = reading.column.array()
    for start in starts:
        begins = pc.starts_with(keys, pattern=start)  # type: ignore[call-overload]  # it takes bytes too
        previous[:plain][begins.to_numpy(zero_copy_only=False)] = NO_ROW
    for row, key in enumerate(reading.odd_keys, plain):
        if key.startswith(starts):
            previous[row] = NO_ROW


def _nothing(grammar: Grammar) -> Reading:
    return Reading(KeyColumn.empty(), np.empty(0), False, NO_ROWS, [], [], Declared(), grammar, None)


def _parse_keys(matched: Matched, grammar: Grammar) -> Mapping[bytes, ParsedKey]:
    """Check each new key; if they are few, they stay parsed for whoever asks next. Raises SyntaxFault."""
    parsed: dict[bytes, ParsedKey] = {}
    is_kept = len(matched.fresh) <= MOST_PARSED
    for start in range(0, len(matched.fresh), SLICE):
        for key in matched.column.keys(matched.fresh[start : start + SLICE]):
            found = parse_key(key, grammar)
            if is_kept:
                parsed[key] = found
    return parsed
