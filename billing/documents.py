"""Contracts, licences and price books come as YAML. This is how such a document is read: strictly, as a whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from kernel.errors import Finding, InvalidInput
from kernel.settings import MAX_FILE_BYTES, Section, invalid, mapping_of, parse_yaml

D = TypeVar("D", bound=Section)
_MAX_DEPTH = 12
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster; a run reads every contract


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The exact text of a document as it was handed in, and its sha256."""

    text: str
    sha256: str

    @classmethod
    def of(cls, text: str) -> Snapshot:
        return cls(text, sha256(text.encode()).hexdigest())


def parse_document(text: str, source: str, model: type[D]) -> D:
    """The document in `text`. Raises InvalidInput with every finding.

    Refused besides what the model refuses: a key twice in one mapping (YAML would silently take the last), and
    anchors with aliases (a few lines of them expand without bound).
    """
    return _validated(_content(text, source), source, model)


def render_content(text: str, source: str) -> str:
    """What the YAML of a document means, as JSON: dates are texts. For `parse_content`, which reads it faster."""
    return json.dumps(_content(text, source), default=_day_text, ensure_ascii=False, allow_nan=False)


def parse_content(content: str, source: str, model: type[D]) -> D:
    """The document of such a JSON. Raises InvalidInput."""
    return _validated(json.loads(content), source, model)


def _day_text(value: object) -> str:
    if type(value) is not date:
        raise TypeError(f"{type(value).__name__} in a document")
    return value.isoformat()


def _content(text: str, source: str) -> dict[str, Any]:
    if len(text) > MAX_FILE_BYTES:
        raise InvalidInput.single(source, "size", f"{len(text)} characters", f"at most {MAX_FILE_BYTES}")
    try:
        _refuse_traps(text, source)
        content = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader, either of them
    except (yaml.YAMLError, ValueError):
        content = parse_yaml(text, source)  # says where, as everywhere
    return mapping_of(content, source)


def _validated(content: object, source: str, model: type[D]) -> D:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise invalid(error, source, model) from error


def _refuse_traps(text: str, source: str) -> None:
    stack: list[_Level] = []
    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        line = f"line {mark.line + 1}" if mark else "document"
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput.single(source, line, f"*{event.anchor}", "no aliases: write the value out")
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if stack:
            _note_key(stack[-1], event, source, line)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) == _MAX_DEPTH:
                raise InvalidInput.single(source, line, "deeper nesting", f"at most {_MAX_DEPTH} levels")
            stack.append(_Level(isinstance(event, yaml.MappingStartEvent), set()))


@dataclass(slots=True)
class _Level:
    mapping: bool
    keys: set[str]
    key_next: bool = True


def _note_key(level: _Level, event: Any, source: str, line: str) -> None:
    if not level.mapping:
        return
    if level.key_next and isinstance(event, yaml.ScalarEvent):
        if event.value in level.keys:
            raise InvalidInput([Finding(source, line, f"{event.value!r} again", "each key once")])
        if event.value == "<<":
            raise InvalidInput([Finding(source, line, "<<", "no merged mappings: write the values out")])
        level.keys.add(event.value)
    level.key_next = not level.key_next
