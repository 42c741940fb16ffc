"""On which line of a YAML text a field stands, so that a refusal can say it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import yaml

from kernel.errors import InvalidInput

MAX_DEPTH = 20  # no field is deeper, and the paths of a deep one are long
# Events, as building nodes recurses: in C, a few kilobytes of brackets would end the process.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def naming_lines(text: str, source: str) -> Iterator[None]:
    """Findings about `source` that leave here say the line of their field, or of what should hold it."""
    try:
        yield
    except InvalidInput as error:
        if all(each.line is not None or each.source != source for each in error.findings):
            raise
        lines = lines_of(text)
        raise InvalidInput(
            [
                replace(each, line=_line(each.where, lines)) if each.source == source else each
                for each in error.findings
            ]
        ) from error


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of each path such as `charges[0].steps[1].start`; up to where the text stops being YAML."""
    lines: dict[str, int] = {}
    stack: list[_Level] = []
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.NodeEvent):
                if len(stack) > MAX_DEPTH:
                    return lines
                path = stack[-1].path_of(event, lines) if stack else ""
                if isinstance(event, yaml.CollectionStartEvent):
                    stack.append(_Level(path, isinstance(event, yaml.MappingStartEvent)))
    except (yaml.YAMLError, ValueError):
        return lines
    return lines


def _line(where: str, lines: dict[str, int]) -> int | None:
    while where and where not in lines:
        where = where[: max(where.rfind("."), where.rfind("["), 0)]
    return lines.get(where)


@dataclass(slots=True)
class _Level:
    """A mapping or a list that is being read."""

    path: str
    mapping: bool
    key: str | None = None  # of a mapping, whose value comes next
    count: int = 0

    def path_of(self, event: Any, lines: dict[str, int]) -> str:
        """The path of the node that begins here, noted with its line; that of a key is its value's."""
        if self.mapping and self.key is not None:
            name, self.key = self.key, None
            return name
        if self.mapping:
            self.key = f"{self.path}.{getattr(event, 'value', '')}".lstrip(".")
            lines.setdefault(self.key, event.start_mark.line + 1)
            return self.key
        self.count += 1
        path = f"{self.path}[{self.count - 1}]"
        lines.setdefault(path, event.start_mark.line + 1)
        return path
