"""Templates of labels and annotations: the common subset of Prometheus', everything else refused at load.

Allowed between `{{` and `}}`: `$labels.name`, `$value`, `$value | f` with f one of humanize, humanizePercentage,
humanizeDuration, and `printf "%.2f" $value` or `$value | printf "%.2f"` with one verb f, g, e or v.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alerts.humanize import go_float, humanize, humanize_duration, humanize_percentage

Render = Callable[[Mapping[str, str], float], str]

TEMPLATE_RULE = (
    "{{ $labels.name }}, {{ $value }}, {{ $value | humanize }}, humanizePercentage or humanizeDuration, "
    'and {{ printf "%.2f" $value }}'
)
MAX_TEMPLATE_CHARACTERS = 10_000
_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_LABEL = re.compile(r"\$labels\.([A-Za-z_][A-Za-z0-9_]*)")
_FORMATS: dict[str, Callable[[float], str]] = {
    "humanize": humanize,
    "humanizePercentage": humanize_percentage,
    "humanizeDuration": humanize_duration,
}
_PRINTF = re.compile(r'printf\s+"((?:[^"\\%]|%%)*%(?:\.(\d{1,2}))?([fgev])(?:[^"\\%]|%%)*)"')
_VERB = re.compile(r"%(?:\.(\d{1,2}))?([fgev%])")


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template; `text` is its source."""

    text: str
    parts: tuple[str | Render, ...]

    def render(self, labels: Mapping[str, str], value: float) -> str:
        """The text for one alert; a label that it does not have is empty."""
        return "".join(part if isinstance(part, str) else part(labels, value) for part in self.parts)


def parse_template(text: str) -> Template:
    """The template in `text`. Raises ValueError naming the action that is not supported."""
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise ValueError(f"a template of {len(text)} characters")
    parts: list[str | Render] = []
    position = 0
    for action in _ACTION.finditer(text):
        parts += [text[position : action.start()], _parse_action(action.group(1).strip())]
        position = action.end()
    parts.append(text[position:])
    for part in parts:
        if isinstance(part, str) and "{{" in part:
            raise ValueError("'{{' without '}}'")
    return Template(text, tuple(part for part in parts if part != ""))


def _parse_action(action: str) -> Render:
    label = _LABEL.fullmatch(action)
    if label:
        name = label.group(1)
        return lambda labels, _value: labels.get(name, "")
    if action == "$value":
        return lambda _labels, value: go_float(value)
    source, separator, function = (part.strip() for part in action.partition("|"))
    if separator and source == "$value" and function in _FORMATS:
        formatted = _FORMATS[function]
        return lambda _labels, value: formatted(value)
    if separator and source == "$value":
        printed = _PRINTF.fullmatch(function)
    else:
        printed = _PRINTF.fullmatch(action.removesuffix("$value").strip()) if action.endswith("$value") else None
    if printed:
        pattern = printed.group(1)
        return lambda _labels, value: _printf(pattern, value)
    raise ValueError(f"{{{{ {action} }}}}")


def _printf(pattern: str, value: float) -> str:
    def verb(found: re.Match[str]) -> str:
        precision, letter = found.groups()
        if letter == "%":
            return "%"
        if letter == "v" or (letter == "g" and precision is None):
            return go_float(value)
        if value in {float("inf"), float("-inf")} or value != value:  # noqa: PLR0124 - NaN
            return go_float(value)
        return f"{value:.{precision or 6}{letter}}"

    return _VERB.sub(verb, pattern)
