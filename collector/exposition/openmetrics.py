"""OpenMetrics 1.0 text, with the leniencies of Prometheus' own parser.

Exemplars are checked and dropped. `_created` samples are samples as any other.
"""

from __future__ import annotations

import math
from typing import TypeVar

from collector.exposition.columns import Columns, KeyCache, MetricType
from collector.exposition.errors import ExpositionError, SyntaxFault
from collector.exposition.lexing import METRIC, OPENMETRICS, Cursor, parse_labels, parse_number

E = TypeVar("E")

_EOF = b"# EOF"
_TYPES = {member.value: member for member in MetricType}


def parse_openmetrics(body: bytes, cache: KeyCache[E]) -> Columns[E]:
    """The samples of a body. Raises ExpositionError; then nothing of the body counts."""
    cache.begin()
    columns: Columns[E] = Columns()
    known = cache.entries
    lines = body.split(b"\n")
    if lines[-1] == b"" and len(lines) > 1:
        lines.pop()
    number = 0
    try:
        for number, line in enumerate(lines, 1):  # noqa: B007 - read after the loop
            if line.startswith(b"#"):
                if line == _EOF:
                    break
                _parse_comment(line, cache)
                continue
            head_end = line.find(b" # {")
            head = line if head_end < 0 else line[:head_end]
            end = head.rfind(b"}") + 1 or head.find(b" ")
            entry = known.get(head[:end]) if end > 0 else None
            if entry is None:
                _parse_sample(line, cache, columns)
            else:
                _add_rest(columns, entry, line, end)
        else:
            number = len(lines)
            raise SyntaxFault("a body that ends with # EOF")
    except SyntaxFault as fault:
        raise ExpositionError.at(number, lines[number - 1], fault.allowed) from None
    if number != len(lines):
        raise ExpositionError.at(number + 1, lines[number], "nothing after # EOF")
    return columns


def _parse_sample(line: bytes, cache: KeyCache[E], columns: Columns[E]) -> None:
    cursor = Cursor(line)
    found = cursor.take(METRIC)
    name = found.decode() if found is not None else None
    labels: dict[str, str] = {}
    if cursor.peek() == b"{":
        cursor.at += 1
        name, labels = parse_labels(cursor, OPENMETRICS, name)
    if not name:
        raise SyntaxFault("a metric name")
    probe: Columns[None] = Columns()
    _add_rest(probe, None, line, cursor.at)
    entry = cache.miss(line[: cursor.at], name, labels)
    columns.add(entry, probe.values[0], probe.timestamps.get(0))


def _add_rest(columns: Columns[E], entry: E, line: bytes, at: int) -> None:
    """What follows the series: ` value`, maybe ` seconds`, maybe ` # {...} value seconds`."""
    exemplar = line.find(b" # {", at)
    rest = line[at:] if exemplar < 0 else line[at:exemplar]
    tokens = rest.split(b" ")
    if tokens[0] or len(tokens) not in (2, 3):
        raise SyntaxFault("one space, a value, and at most one space and a timestamp in seconds")
    if exemplar >= 0:
        _check_exemplar(line, exemplar + 4)
    value = parse_number(tokens[1])
    columns.add(entry, value, _parse_seconds(tokens[2]) if len(tokens) == 3 else None)


def _check_exemplar(line: bytes, at: int) -> None:
    cursor = Cursor(line, at)
    name, _ = parse_labels(cursor, OPENMETRICS, None)
    if name is not None:
        raise SyntaxFault("name=value pairs in an exemplar")
    tokens = line[cursor.at :].split(b" ")
    if tokens[0] or len(tokens) not in (2, 3):
        raise SyntaxFault("one space and a value after an exemplar's labels")
    for token in tokens[1:]:
        parse_number(token)
    if len(tokens) == 3:
        _parse_seconds(tokens[2])


def _parse_seconds(token: bytes) -> int:
    seconds = parse_number(token)
    if not math.isfinite(seconds) or abs(seconds) > 9e15:
        raise SyntaxFault("a finite timestamp in seconds")
    return int(seconds * 1000)


def _parse_comment(line: bytes, cache: KeyCache[E]) -> None:
    if line in cache.comments:
        declared = cache.comments[line]
    else:
        declared = cache.comments[line] = _read_comment(line)
    if declared is not None:
        cache.types[declared[0]] = declared[1]


def _read_comment(line: bytes) -> tuple[str, MetricType] | None:
    word = line[2:7]
    if line[:2] != b"# " or word not in (b"HELP ", b"TYPE ", b"UNIT "):
        raise SyntaxFault("# HELP, # TYPE, # UNIT or # EOF")
    cursor = Cursor(line, 7)
    if cursor.peek() == b'"':
        name = cursor.quoted(one_line=True)
    else:
        found = cursor.take(METRIC)
        if found is None:
            raise SyntaxFault("a metric name")
        name = found.decode()
    if line[cursor.at : cursor.at + 1] != b" ":
        raise SyntaxFault("one space and a text after the metric name")
    try:
        text = line[cursor.at + 1 :].decode()
    except UnicodeDecodeError:
        raise SyntaxFault("UTF-8") from None
    if word == b"UNIT " and text and not name.endswith("_" + text):
        raise SyntaxFault("a unit that the metric's name ends with")
    if word != b"TYPE ":
        return None
    if text not in _TYPES:
        raise SyntaxFault(f"one of the types {', '.join(_TYPES)}")
    return name, _TYPES[text]
