"""Relabelling: Prometheus' rules on a label set. Pure; regular expressions are RE2, anchored at both ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import md5
from typing import Any

import re2

_MOST_VERDICTS = 5_000
_REFERENCE = re.compile(r"\$(?:(\$)|\{([^}]*)\}|([A-Za-z0-9_]+))", re.ASCII)


class Action(StrEnum):
    """What a rule does; the words of Prometheus' configuration."""

    REPLACE = "replace"
    KEEP = "keep"
    DROP = "drop"
    KEEPEQUAL = "keepequal"
    DROPEQUAL = "dropequal"
    HASHMOD = "hashmod"
    LABELMAP = "labelmap"
    LABELDROP = "labeldrop"
    LABELKEEP = "labelkeep"
    LOWERCASE = "lowercase"
    UPPERCASE = "uppercase"


def compile_anchored(pattern: str) -> Any:
    """An RE2 pattern for `fullmatch`; `.` matches newlines, as in Prometheus. Raises ValueError."""
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"not an RE2 expression: {text}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"not an RE2 expression: {error.reason}") from None


@dataclass(frozen=True, slots=True)
class RelabelRule:
    """One entry of `relabel_configs`; the defaults are Prometheus'."""

    action: Action = Action.REPLACE
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: str = "(.*)"
    modulus: int = 0
    target_label: str = ""
    replacement: str = "$1"
    _compiled: Any = field(init=False, repr=False, compare=False)
    _verdicts: dict[str, bool] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", compile_anchored(self.regex))

    @property
    def looks_at(self) -> frozenset[str]:
        """Names of the labels whose values it looks at."""
        compares = self.action in (Action.KEEPEQUAL, Action.DROPEQUAL)
        return frozenset((*self.source_labels, self.target_label) if compares else self.source_labels)

    @property
    def moves_values(self) -> bool:
        """Whether it gives values of labels to labels of other names, without looking at them."""
        return self.action is Action.LABELMAP

    def apply(self, labels: dict[str, str]) -> bool:
        """Change `labels` in place; False: the series or target is dropped."""
        joined = self.separator.join(labels.get(name, "") for name in self.source_labels)
        match self.action:
            case Action.KEEP:
                return self._matches(joined)
            case Action.DROP:
                return not self._matches(joined)
            case Action.KEEPEQUAL:
                return labels.get(self.target_label, "") == joined
            case Action.DROPEQUAL:
                return labels.get(self.target_label, "") != joined
            case Action.REPLACE:
                self._replace(labels, joined)
            case Action.LOWERCASE:
                _set(labels, self.target_label, joined.lower())
            case Action.UPPERCASE:
                _set(labels, self.target_label, joined.upper())
            case Action.HASHMOD:
                digest = md5(joined.encode(), usedforsecurity=False).digest()
                _set(labels, self.target_label, str(int.from_bytes(digest[8:], "big") % self.modulus))
            case Action.LABELMAP | Action.LABELDROP | Action.LABELKEEP:
                self._by_name(labels)
        return True

    def _matches(self, text: str) -> bool:
        """Remembered: rules that keep and drop look at what many series have in common."""
        found = self._verdicts.get(text)
        if found is None:
            if len(self._verdicts) >= _MOST_VERDICTS:
                self._verdicts.clear()
            found = self._verdicts[text] = self._compiled.fullmatch(text) is not None
        return found

    def _replace(self, labels: dict[str, str], joined: str) -> None:
        found = self._compiled.fullmatch(joined)
        if found is None:
            return
        target = _expand(self.target_label, found)
        if target:
            _set(labels, target, _expand(self.replacement, found))

    def _by_name(self, labels: dict[str, str]) -> None:
        for name, value in sorted(labels.items()):
            found = self._compiled.fullmatch(name)
            if self.action is Action.LABELMAP:
                if found is not None:
                    _set(labels, _expand(self.replacement, found), value)
            elif (found is not None) is (self.action is Action.LABELDROP):
                del labels[name]


def relabel(labels: dict[str, str], rules: Sequence[RelabelRule]) -> dict[str, str] | None:
    """The labels after all rules, in order; None: dropped. `labels` itself is not changed."""
    changed = {name: value for name, value in labels.items() if value}
    for rule in rules:
        if not rule.apply(changed):
            return None
    return changed


def _set(labels: dict[str, str], name: str, value: str) -> None:
    if value and name:
        labels[name] = value
    else:
        labels.pop(name, None)


def _expand(template: str, found: Any) -> str:
    """`$1`, `${1}`, `$name`, `${name}` and `$$`, as Go's regexp.Expand: an unknown group is empty."""

    def replaced(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] if reference[2] is not None else reference[3]
        is_number = name.isascii() and name.isdigit()
        if is_number and len(name) > 4:  # no expression has so many groups
            return ""
        try:
            return found.group(int(name) if is_number else name) or ""
        except (IndexError, KeyError, re2.error):
            return ""

    return _REFERENCE.sub(replaced, template) if "$" in template else template
