"""The Prometheus text format 0.0.4."""

from __future__ import annotations

import re
from collections.abc import Container

from collector.exposition.columns import Declaration, MetricType, Rows
from collector.exposition.errors import ExpositionError, SyntaxFault, Unterminated
from collector.exposition.lexing import METRIC, TEXT, Cursor, parse_labels, parse_number

MAX_JOINED_LINES = 64  # a label value may hold raw newlines; this many
MAX_TIMESTAMP_MS = 2**63 - 1
_ESCAPED = re.compile(r'\\([\\n"])')
_TYPES = {
    "counter": MetricType.COUNTER,
    "gauge": MetricType.GAUGE,
    "histogram": MetricType.HISTOGRAM,
    "summary": MetricType.SUMMARY,
    "untyped": MetricType.UNKNOWN,
}


def parse_text(body: bytes, known: Container[bytes] = frozenset()) -> Rows:
    """The rows of a body. A key in `known` was read before, so only its number is looked at.

    Raises ExpositionError; then nothing of the body counts.
    """
    rows = Rows()
    lines = body.split(b"\n")
    number, last = 0, len(lines)
    try:
        while number < last:
            line = lines[number]
            number += 1
            if not read_known_line(line, known, rows):
                number += _parse_line(lines, number - 1, rows)
    except SyntaxFault as fault:
        raise ExpositionError.at(number, lines[number - 1], fault.allowed) from None
    return rows


def read_known_line(line: bytes, known: Container[bytes], rows: Rows) -> bool:
    """Add the row of a line that begins with a known key; False: it does not. Raises SyntaxFault."""
    end = line.rfind(b"}") + 1 or line.find(b" ")
    if end <= 0:
        return False
    key = line[:end]
    if key not in known:
        return False
    _add_rest(rows, key, line[end:])
    return True


def read_line(line: bytes, rows: Rows) -> None:
    """Add what a line says that needs no other. Raises SyntaxFault."""
    _parse_line([line], 0, rows)


def _add_rest(rows: Rows, key: bytes, rest: bytes) -> None:
    tokens = rest.replace(b"\t", b" ").strip(b" ").split(b" ", 1)
    timestamp_ms = None if len(tokens) == 1 else _parse_timestamp(tokens[1].lstrip(b" "))
    rows.add(key, parse_number(tokens[0]), timestamp_ms)


def _parse_line(lines: list[bytes], index: int, rows: Rows) -> int:
    """One line that is no known key; returns how many lines after it belong to it."""
    line = lines[index].lstrip(b" \t")
    if not line:
        return 0
    if line.startswith(b"#"):
        rows.declare(read_comment(line))
        return 0
    if len(line) < len(lines[index]):
        raise SyntaxFault("no blanks before a metric name")
    joined = 0
    while True:
        try:
            _parse_sample(line, rows)
        except Unterminated:
            joined += 1
            if joined > MAX_JOINED_LINES or index + joined >= len(lines):
                raise
            line = line + b"\n" + lines[index + joined]
        else:
            return joined


def _parse_sample(line: bytes, rows: Rows) -> None:
    cursor = Cursor(line)
    found = cursor.take(METRIC)
    name = found.decode() if found is not None else None
    separated = cursor.blanks()
    end = len(found or b"")
    if cursor.peek() == b"{":
        cursor.at += 1
        name, _ = parse_labels(cursor, TEXT, name)
        separated, end = True, cursor.at
    if not name:
        raise SyntaxFault("a metric name")
    if not separated:
        raise SyntaxFault("a blank and a value after the metric name")
    _add_rest(rows, line[:end], line[cursor.at :])


def _parse_timestamp(token: bytes) -> int:
    if not token.isdigit() or int(token) > MAX_TIMESTAMP_MS:
        raise SyntaxFault("a timestamp in milliseconds, and nothing after it")
    return int(token)


def read_comment(line: bytes) -> Declaration | None:
    """What a line that begins with # declares. Raises SyntaxFault."""
    cursor = Cursor(line, 1)
    cursor.blanks()
    word = line[cursor.at : cursor.at + 4]
    cursor.at += 4
    if cursor.at == 5 or word not in (b"HELP", b"TYPE") or not cursor.blanks():
        return None  # an ordinary comment, whatever it says
    quoted = cursor.peek() == b'"'
    found = cursor.take(METRIC) if not quoted else None
    if not quoted and found is None:
        raise SyntaxFault(f"a metric name after {word.decode()}")
    name = cursor.quoted(one_line=True) if found is None else found.decode()
    text = line[cursor.at :]
    if word == b"HELP":
        return Declaration(name, help=unescaped(_utf8(text).lstrip(" \t")))
    spelled = text.decode("utf-8", "replace").strip(" \t")
    if spelled not in _TYPES:
        raise SyntaxFault(f"one of the types {', '.join(_TYPES)}")
    return Declaration(name, _TYPES[spelled])


def unescaped(text: str) -> str:
    """A HELP text as it was meant."""
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise SyntaxFault("UTF-8 in a HELP text") from None
