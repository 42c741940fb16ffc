"""Structured logs: one JSON object a line on stderr, secrets removed by the name of their field."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from kernel.errors import truncate, without_passwords

_SECRET_FIELD = re.compile(
    r"secret|password|passwd|token|authorization|credential|private|cookie|api_?key", re.IGNORECASE
)

_HIDDEN = "***"
_TEXT_LIMIT = 2000
_EXCEPTION_LIMIT = 20_000  # a traceback keeps its lines
_MAX_DEPTH = 5
_MAX_ITEMS = 100
_REPEAT_SECONDS = 10.0
_REPEATS_REMEMBERED = 1000


def configure_logs(level: str = "INFO", *, readable: bool = False) -> None:
    """Set up structlog and the standard library's logging to write to stderr. Call once, at start."""
    render: Any = structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    stderr: Any = _Stderr()
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=render, foreign_pre_chain=shared))
    logging.basicConfig(
        handlers=[handler], level=max(logging.getLevelNamesMapping()[level], logging.WARNING), force=True
    )


class _Stderr(io.TextIOBase):
    """Standard error as it is at each line. What can't be written is left out: a log that nobody reads any more
    must not end what it tells of.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


class Repeats(logging.Filter):
    """Lets a library say the same thing once in ten seconds, and then how often it was left out.

    With its brokers away, aiokafka writes 150 lines a second: 70 MB an hour.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when it last passed, left out since

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg)[:_TEXT_LIMIT])  # without its arguments
        at, left_out = self._said.get(key, (float("-inf"), 0))
        if 0 <= record.created - at < _REPEAT_SECONDS:
            self._said[key] = at, left_out + 1
            return False
        if len(self._said) >= _REPEATS_REMEMBERED:
            self._said.clear()
        self._said[key] = record.created, 0
        if left_out:
            record.msg = f"{record.msg} (and {left_out} times more)"
        return True


def logger(component: str) -> Any:
    """The logger of a component: `logger("gateway").info("batch_appended", samples=12)`."""
    return structlog.get_logger(component=component)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values of fields whose name says secret, and passwords in URLs, at any depth; bound every text."""
    for name, value in event.items():
        limit = _EXCEPTION_LIMIT if name == "exception" else _TEXT_LIMIT
        event[name] = _HIDDEN if _SECRET_FIELD.search(name) else _redacted(value, limit, _MAX_DEPTH)
    return event


def _redacted(value: Any, limit: int, depth: int) -> Any:
    if isinstance(value, str):
        shown = without_passwords(value)
        return shown[:limit] if limit == _EXCEPTION_LIMIT else truncate(shown, limit)
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return type(value).__name__
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if _SECRET_FIELD.search(str(name)) else _redacted(inner, limit, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(inner, limit, depth - 1) for inner in value[:_MAX_ITEMS]]
    return value
