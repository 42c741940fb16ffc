"""The Prometheus text format 0.0.4."""

from __future__ import annotations

from typing import TypeVar

from collector.exposition.columns import Columns, KeyCache, MetricType
from collector.exposition.errors import ExpositionError, SyntaxFault, Unterminated
from collector.exposition.lexing import METRIC, TEXT, Cursor, parse_labels, parse_number

E = TypeVar("E")

MAX_JOINED_LINES = 64  # a label value may hold raw newlines; this many
MAX_TIMESTAMP_MS = 2**63 - 1
_TYPES = {
    "counter": MetricType.COUNTER,
    "gauge": MetricType.GAUGE,
    "histogram": MetricType.HISTOGRAM,
    "summary": MetricType.SUMMARY,
    "untyped": MetricType.UNKNOWN,
}


def parse_text(body: bytes, cache: KeyCache[E]) -> Columns[E]:
    """The samples of a body. Raises ExpositionError; then nothing of the body counts."""
    cache.begin()
    columns: Columns[E] = Columns()
    known = cache.entries
    lines = body.split(b"\n")
    number, last = 0, len(lines)
    try:
        while number < last:
            line = lines[number]
            number += 1
            end = line.rfind(b"}") + 1 or line.find(b" ")
            if end > 0:
                entry = known.get(line[:end])
                if entry is not None:
                    _add_known(columns, entry, line[end:])
                    continue
            number += _parse_line(lines, number - 1, cache, columns)
    except SyntaxFault as fault:
        raise ExpositionError.at(number, lines[number - 1], fault.allowed) from None
    return columns


def _add_known(columns: Columns[E], entry: E, rest: bytes) -> None:
    tokens = rest.replace(b"\t", b" ").strip(b" ").split(b" ", 1)
    if len(tokens) == 1:
        columns.values.append(parse_number(tokens[0]))
        columns.entries.append(entry)
    else:
        columns.add(entry, parse_number(tokens[0]), _parse_timestamp(tokens[1].lstrip(b" ")))


def _parse_line(lines: list[bytes], index: int, cache: KeyCache[E], columns: Columns[E]) -> int:
    """One line that is no known key; returns how many lines after it belong to it."""
    line = lines[index].lstrip(b" \t")
    if not line:
        return 0
    if line.startswith(b"#"):
        _parse_comment(line, cache)
        return 0
    if len(line) < len(lines[index]):
        raise SyntaxFault("no blanks before a metric name")
    joined = 0
    while True:
        try:
            _parse_sample(line, cache, columns)
        except Unterminated:
            joined += 1
            if joined > MAX_JOINED_LINES or index + joined >= len(lines):
                raise
            line = line + b"\n" + lines[index + joined]
        else:
            return joined


def _parse_sample(line: bytes, cache: KeyCache[E], columns: Columns[E]) -> None:
    cursor = Cursor(line)
    found = cursor.take(METRIC)
    name = found.decode() if found is not None else None
    separated = cursor.blanks()
    labels: dict[str, str] = {}
    end = len(found or b"")
    if cursor.peek() == b"{":
        cursor.at += 1
        name, labels = parse_labels(cursor, TEXT, name)
        separated, end = True, cursor.at
    if not name:
        raise SyntaxFault("a metric name")
    if not separated:
        raise SyntaxFault("a blank and a value after the metric name")
    rest = line[cursor.at :]
    probe: Columns[None] = Columns()
    _add_known(probe, None, rest)
    columns.add(cache.miss(line[:end], name, labels), probe.values[0], probe.timestamps.get(0))


def _parse_timestamp(token: bytes) -> int:
    if not token.isdigit() or int(token) > MAX_TIMESTAMP_MS:
        raise SyntaxFault("a timestamp in milliseconds, and nothing after it")
    return int(token)


def _parse_comment(line: bytes, cache: KeyCache[E]) -> None:
    if line in cache.comments:
        declared = cache.comments[line]
    else:
        declared = cache.comments[line] = _read_comment(line)
    if declared is not None:
        cache.types[declared[0]] = declared[1]


def _read_comment(line: bytes) -> tuple[str, MetricType] | None:
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
        _check_utf8(text)
        return None
    spelled = text.decode("utf-8", "replace").strip(" \t")
    if spelled not in _TYPES:
        raise SyntaxFault(f"one of the types {', '.join(_TYPES)}")
    return name, _TYPES[spelled]


def _check_utf8(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise SyntaxFault("UTF-8 in a HELP text") from None
