"""The tokens that both text formats share: names, quoted texts, label sets, numbers.

What is accepted and what is refused follows Prometheus' own lexers (model/textparse of prometheus/prometheus).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

from collector.exposition.errors import SyntaxFault, Unterminated

METRIC = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(rb"[a-zA-Z_][a-zA-Z0-9_]*")
_QUOTED = re.compile(rb'"((?:[^\\"]|\\.)*+)"')
_QUOTED_ONE_LINE = re.compile(rb'"((?:[^\\"\n]|\\.)*+)"')
_BLANKS = re.compile(rb"[ \t]*")
_ESCAPE = re.compile(r'\\([\\"n])')
_ESCAPED = {"\\": "\\", '"': '"', "n": "\n"}
_SPELLED = re.compile(rb"(?:[+-]?inf(?:inity)?|nan)", re.IGNORECASE)
_DECIMAL = b"0123456789.eE+-"
_SIMPLE_KEY = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*")*)\})?'
)
_SIMPLE_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"')
NORMAL_NAN: float = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]  # the one that is stored


@dataclass(frozen=True, slots=True)
class Grammar:
    """Where the two formats differ inside a label set."""

    blanks: bool  # blanks may stand between tokens
    comma_required: bool
    newline_in_value: bool


TEXT = Grammar(blanks=True, comma_required=False, newline_in_value=True)
OPENMETRICS = Grammar(blanks=False, comma_required=True, newline_in_value=False)


def parse_number(token: bytes) -> float:
    """A sample value as Go's ParseFloat reads it, without hexadecimal and underscores. Raises SyntaxFault."""
    if token and not token.strip(_DECIMAL):
        try:
            value = float(token)
        except ValueError:
            raise SyntaxFault("a number") from None
        if math.isinf(value):
            raise SyntaxFault("a number that fits in 64 bits")
        return value
    if _SPELLED.fullmatch(token):
        value = float(token)
        return NORMAL_NAN if math.isnan(value) else value
    raise SyntaxFault("a number, +Inf, -Inf or NaN")


def unescape(raw: bytes) -> str:
    r"""The text between quotes: `\\`, `\"` and `\n` are replaced, other backslashes stay. Raises SyntaxFault."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise SyntaxFault("UTF-8") from None
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], text) if "\\" in text else text


class Cursor:
    """A place in some bytes that moves forward token by token."""

    __slots__ = ("at", "text")

    def __init__(self, text: bytes, at: int = 0) -> None:
        self.text = text
        self.at = at

    def blanks(self) -> bool:
        """Move over spaces and tabs; True if there was any."""
        found = _BLANKS.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return found.end() > found.start()

    def peek(self) -> bytes:
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[bytes]) -> bytes | None:
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def quoted(self, *, one_line: bool = False) -> str:
        """The quoted text that begins here. Raises SyntaxFault, Unterminated."""
        found = (_QUOTED_ONE_LINE if one_line else _QUOTED).match(self.text, self.at)
        if found is None:
            raise Unterminated("a text in double quotes")
        self.at = found.end()
        return unescape(found[1])


def parse_labels(cursor: Cursor, grammar: Grammar, name: str | None) -> tuple[str | None, dict[str, str]]:
    """The label set whose `{` was just read; a quoted text without `=` is the metric's name.

    Returns the name (the one given, or the one found) and the labels, empty values included. Raises SyntaxFault.
    """
    labels: dict[str, str] = {}
    while True:
        _space(cursor, grammar)
        if cursor.peek() == b"}":
            cursor.at += 1
            return name, labels
        quoted = cursor.peek() == b'"'
        key = cursor.quoted() if quoted else _bare_label(cursor)
        _space(cursor, grammar)
        if quoted and cursor.peek() in (b",", b"}"):
            if name is not None:
                raise SyntaxFault("one metric name")
            name = key
        else:
            _label_value(cursor, grammar, key, labels)
            _space(cursor, grammar)
        if cursor.peek() == b",":
            cursor.at += 1
        elif cursor.peek() != b"}" and grammar.comma_required:
            raise SyntaxFault("a comma or }")


def parse_key(key: bytes, grammar: Grammar) -> tuple[str, dict[str, str]]:
    """Name and labels (empty values included) of a whole key, `name{...}`. Raises SyntaxFault."""
    simple = parse_simple_key(key)
    if simple is not None:
        return simple
    cursor = Cursor(key)
    found = cursor.take(METRIC)
    name = found.decode() if found is not None else None
    if grammar.blanks and found is not None:  # blanks may stand behind a name, not before all
        cursor.blanks()
    labels: dict[str, str] = {}
    if cursor.peek() == b"{":
        cursor.at += 1
        name, labels = parse_labels(cursor, grammar, name)
    if not name:
        raise SyntaxFault("a metric name")
    if cursor.at != len(key):
        raise SyntaxFault("a blank and a value after the metric name")
    return name, labels


def parse_simple_key(key: bytes) -> tuple[str, dict[str, str]] | None:
    """The usual spelling, which means the same in both formats; None: it may be right all the same."""
    try:
        found = _SIMPLE_KEY.fullmatch(key.decode())
    except UnicodeDecodeError:
        raise SyntaxFault("UTF-8") from None
    if found is None:
        return None
    inner = found[2]
    if inner is None:
        return found[1], {}
    pairs = _SIMPLE_PAIR.findall(inner)
    labels: dict[str, str] = dict(pairs)
    return None if len(labels) < len(pairs) or "__name__" in labels else (found[1], labels)


def _bare_label(cursor: Cursor) -> str:
    found = cursor.take(LABEL)
    if found is None:
        raise SyntaxFault("a label name or }")
    return found.decode()


def _label_value(cursor: Cursor, grammar: Grammar, key: str, labels: dict[str, str]) -> None:
    if cursor.peek() != b"=":
        raise SyntaxFault("= after a label name")
    cursor.at += 1
    _space(cursor, grammar)
    if cursor.peek() != b'"':
        raise SyntaxFault("a label value in double quotes")
    value = cursor.quoted(one_line=not grammar.newline_in_value)
    if not key or key in labels or key == "__name__":
        raise SyntaxFault("label names that are there once, not empty and not __name__")
    labels[key] = value


def _space(cursor: Cursor, grammar: Grammar) -> None:
    if grammar.blanks:
        cursor.blanks()
