"""Reads a CSV of history: columns `timestamp_ms` or `timestamp` (ISO 8601 with zone), `metric`, `value`, labels.

Every row is checked before the first is used; the findings name line and column.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from collector.exposition.errors import SyntaxFault
from collector.exposition.lexing import parse_number
from collector.labels import METRIC_NAME, Labels, make_labels
from kernel.clock import to_ms
from kernel.errors import Finding, InvalidInput, raise_findings

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_FINDINGS = 50
MAX_CELL_BYTES = 64 * 1024
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_MILLISECONDS = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One sample of the file."""

    timestamp_ms: int
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """All rows, by time then series; `sha256` of the file names the import."""

    rows: Sequence[HistoryRow]
    sha256: str


def load_history(path: Path, now_ms: int) -> HistoryTable:
    """The rows of a file, none later than `now_ms`. Raises InvalidInput; then none is used."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput.single(str(path), "size", path.stat().st_size, f"at most {MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror or str(error), "a readable file") from error
    return HistoryTable(parse_history(content, str(path), now_ms), sha256(content).hexdigest())


def parse_history(content: bytes, source: str, now_ms: int) -> list[HistoryRow]:
    """The rows of a CSV, by time then series. Raises InvalidInput."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput.single(source, f"byte {error.start}", "not UTF-8", "UTF-8 text") from error
    reader = _Reader(source, now_ms)
    rows = list(reader.rows(text))
    raise_findings(reader.findings)
    return sorted(rows, key=lambda row: (row.timestamp_ms, row.labels))


class _Reader:
    def __init__(self, source: str, now_ms: int) -> None:
        self.findings: list[Finding] = []
        self._source = source
        self._now_ms = now_ms
        self._columns: list[str] = []
        self._seen: set[tuple[int, Labels]] = set()

    def rows(self, text: str) -> Iterator[HistoryRow]:
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            self._columns = next(lines, [])
            self._check_columns()
            for cells in lines:
                if len(self.findings) >= MAX_FINDINGS:
                    return
                row = self._row(cells, lines.line_num) if cells else None
                if row is not None:
                    yield row
        except csv.Error as error:
            self._add(lines.line_num, "row", str(error), "CSV as of RFC 4180")

    def _check_columns(self) -> None:
        columns = self._columns
        if len(set(columns)) != len(columns):
            self._add(1, "header", ",".join(columns), "each column once")
        for name in ("metric", "value"):
            if name not in columns:
                self._add(1, "header", ",".join(columns), f"a column {name}")
        if ("timestamp_ms" in columns) == ("timestamp" in columns):
            self._add(1, "header", ",".join(columns), "a column timestamp_ms or timestamp, not both")
        for name in columns:
            if not _LABEL.fullmatch(name):
                self._add(1, name, name, "label names of letters, digits and _, not beginning with __")
        raise_findings(self.findings)

    def _row(self, cells: list[str], line: int) -> HistoryRow | None:
        if len(cells) != len(self._columns):
            self._add(line, "row", f"{len(cells)} cells", f"{len(self._columns)} cells")
            return None
        fields = dict(zip(self._columns, cells, strict=True))
        before = len(self.findings)
        at = self._timestamp(fields, line)
        value = self._value(fields.pop("value"), line)
        metric = fields.pop("metric")
        if not _METRIC.fullmatch(metric):
            self._add(line, "metric", metric, "a metric name")
        for name, text in fields.items():
            if len(text) > MAX_CELL_BYTES:
                self._add(line, name, text, f"at most {MAX_CELL_BYTES} characters")
        if len(self.findings) > before:
            return None
        labels = make_labels({**fields, METRIC_NAME: metric})
        if (at, labels) in self._seen:
            self._add(line, "row", f"{metric} at {at} again", "each series once at a time")
            return None
        self._seen.add((at, labels))
        return HistoryRow(at, labels, value)

    def _timestamp(self, fields: dict[str, str], line: int) -> int:
        at = -1
        if "timestamp_ms" in fields:
            name, allowed = "timestamp_ms", "milliseconds since 1970, not in the future"
            text = fields.pop(name)
            if _MILLISECONDS.fullmatch(text):
                at = int(text)
        else:
            name, allowed = "timestamp", "ISO 8601 with a zone, such as 2026-01-31T12:00:00Z, not in the future"
            text = fields.pop(name)
            try:
                at = to_ms(datetime.fromisoformat(text))
            except (ValueError, OverflowError):
                at = -1
        if not 0 <= at <= self._now_ms:
            self._add(line, name, text, allowed)
        return at

    def _value(self, text: str, line: int) -> float:
        try:
            return parse_number(text.encode())
        except SyntaxFault as fault:
            self._add(line, "value", text, fault.allowed)
            return 0.0

    def _add(self, line: int, column: str, found: str, allowed: str) -> None:
        self.findings.append(Finding(self._source, f"line {line}, column {column}", repr(found), allowed))
