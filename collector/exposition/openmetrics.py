"""OpenMetrics 1.0 text, with the leniencies of Prometheus' own parser.

`_created` samples are samples as any other; what they say of others is read later (`scrape.beginnings`).
"""

from __future__ import annotations

import math
from collections.abc import Container

from collector.exposition.columns import Declaration, MetricType, RawExemplar, Rows
from collector.exposition.errors import ExpositionError, SyntaxFault
from collector.exposition.lexing import METRIC, OPENMETRICS, Cursor, parse_labels, parse_number
from collector.exposition.text import unescaped

EOF = b"# EOF"
_TYPES = {member.value: member for member in MetricType}


def parse_openmetrics(body: bytes, known: Container[bytes] = frozenset()) -> Rows:
    """The rows of a body. A key in `known` was read before, so only what follows it is looked at.

    Raises ExpositionError; then nothing of the body counts.
    """
    rows = Rows()
    lines = body.split(b"\n")
    if lines[-1] == b"" and len(lines) > 1:
        lines.pop()
    number = 0
    try:
        for number, line in enumerate(lines, 1):  # noqa: B007 - read after the loop
            if line == EOF:
                break
            read_line(line, known, rows)
        else:
            number = len(lines)
            raise SyntaxFault("a body that ends with # EOF")
    except SyntaxFault as fault:
        raise ExpositionError.at(number, lines[number - 1], fault.allowed) from None
    if number != len(lines):
        raise ExpositionError.at(number + 1, lines[number], "nothing after # EOF")
    return rows


def read_line(line: bytes, known: Container[bytes], rows: Rows) -> None:
    """Add what a line says that is not # EOF. Raises SyntaxFault."""
    if line.startswith(b"#"):
        rows.declare(read_comment(line))
        return
    head_end = line.find(b" # {")
    head = line if head_end < 0 else line[:head_end]
    end = head.rfind(b"}") + 1 or head.find(b" ")
    if end <= 0 or head[:end] not in known:
        end = _end_of_key(line)
    _add_rest(rows, line, end)


def _end_of_key(line: bytes) -> int:
    cursor = Cursor(line)
    found = cursor.take(METRIC)
    name = found.decode() if found is not None else None
    if cursor.peek() == b"{":
        cursor.at += 1
        name, _ = parse_labels(cursor, OPENMETRICS, name)
    if not name:
        raise SyntaxFault("a metric name")
    return cursor.at


def _add_rest(rows: Rows, line: bytes, at: int) -> None:
    """What follows the series: ` value`, maybe ` seconds`, maybe ` # {...} value seconds`."""
    exemplar = line.find(b" # {", at)
    rest = line[at:] if exemplar < 0 else line[at:exemplar]
    tokens = rest.split(b" ")
    if tokens[0] or len(tokens) not in (2, 3):
        raise SyntaxFault("one space, a value, and at most one space and a timestamp in seconds")
    found = _parse_exemplar(line, exemplar + 4) if exemplar >= 0 else None
    value = parse_number(tokens[1])
    timestamp_ms = _parse_seconds(tokens[2]) if len(tokens) == 3 else None
    if found is not None:
        rows.exemplars[len(rows.values)] = [found]
    rows.add(line[:at], value, timestamp_ms)


def _parse_exemplar(line: bytes, at: int) -> RawExemplar:
    cursor = Cursor(line, at)
    name, labels = parse_labels(cursor, OPENMETRICS, None)
    if name is not None:
        raise SyntaxFault("name=value pairs in an exemplar")
    tokens = line[cursor.at :].split(b" ")
    if tokens[0] or len(tokens) not in (2, 3):
        raise SyntaxFault("one space and a value after an exemplar's labels")
    value = parse_number(tokens[1])
    return RawExemplar(labels, value, _parse_seconds(tokens[2]) if len(tokens) == 3 else None)


def _parse_seconds(token: bytes) -> int:
    seconds = parse_number(token)
    if not math.isfinite(seconds) or abs(seconds) > 9e15:
        raise SyntaxFault("a finite timestamp in seconds")
    return int(seconds * 1000)


def read_comment(line: bytes) -> Declaration | None:
    """What a line that begins with # declares. Raises SyntaxFault."""
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
    if word == b"UNIT ":
        return Declaration(name, unit=text)
    if word == b"HELP ":
        return Declaration(name, help=unescaped(text))
    if text not in _TYPES:
        raise SyntaxFault(f"one of the types {', '.join(_TYPES)}")
    return Declaration(name, _TYPES[text])
