"""Lines of a document, made again from usage and the contract's text, and compared with those that are stated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from billing.document import render_line
from billing.rating.line import Line
from kernel.errors import InvalidInput, truncate
from kernel.money import Currency


def currency_of(document: Mapping[str, Any]) -> Currency:
    """As the document states it."""
    return Currency(document["currency"]["code"], int(document["currency"]["decimals"]))


def check_lines(
    expected: Iterable[Line], stated: Iterable[tuple[int, Mapping[str, Any] | None]], source: str, reason: str
) -> int:
    """How many lines are as they are stated, each with its position from 1. Raises InvalidInput."""
    count = 0
    for line, (position, one) in zip(expected, stated, strict=True):
        rendered = json.loads(json.dumps(render_line(line)))
        if rendered != one:
            where, found, allowed = difference(rendered, one)
            raise InvalidInput.single(source, f"lines[{position}]{where}", found, f"{allowed}, by {reason}")
        count += 1
    return count


def difference(expected: Any, found: Any, where: str = "") -> tuple[str, str, str]:
    """Where two JSON values first differ, what is found there and what was expected."""
    for key, inner, other in _pairs(expected, found):
        if inner != other:
            return difference(inner, other, f"{where}{key}")
    return where, truncate(repr(found)), truncate(repr(expected))


def _pairs(expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        yield from ((f".{key}", expected[key], found[key]) for key in sorted(expected))
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        yield from ((f"[{at}]", one, other) for at, (one, other) in enumerate(zip(expected, found, strict=True), 1))
