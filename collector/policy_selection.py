"""Which series a rule of the policy is about, and what it does with their labels."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from collector.labels import METRIC_NAME
from collector.policy_settings import AllowRule, DropRule, Unlisted

MAX_CACHED = 50_000  # names and label names that are kept; a target chooses how many there are


class Fate(StrEnum):
    """What a rule does with a label."""

    KEPT = "kept"
    PSEUDONYM = "pseudonym"
    REMOVED = "removed"
    DROPS_SERIES = "drops_series"


@dataclass(slots=True)
class Selection:
    """Which series a rule is about."""

    name: str  # of the rule, for people
    metrics: re.Pattern[str]
    where: tuple[tuple[str, re.Pattern[str]], ...]

    def names(self, name: str, family: str) -> bool:
        return bool(self.metrics.fullmatch(name) or self.metrics.fullmatch(family))

    def holds(self, labels: Mapping[str, str]) -> bool:
        return all(pattern.fullmatch(labels.get(name, "")) for name, pattern in self.where)


@dataclass(frozen=True, slots=True)
class Fates:
    """What a rule does with series of these label names. `drops`: the series stays."""

    kept: tuple[str, ...]
    pseudonyms: tuple[str, ...]
    drops: bool


@dataclass(slots=True)
class LabelRule:
    selection: Selection
    settings: AllowRule
    removed: re.Pattern[str] | None
    met: dict[tuple[str, ...], Fates] = field(default_factory=dict)  # by label names, as met

    def fates(self, names: tuple[str, ...]) -> Fates:
        found = self.met.get(names)
        if found is not None:
            return found
        if len(self.met) >= MAX_CACHED:
            self.met.clear()
        fates = {name: self.fate(name) for name in names}
        found = self.met[names] = Fates(
            tuple(name for name in names if fates[name] is Fate.KEPT),
            tuple(name for name in names if fates[name] is Fate.PSEUDONYM),
            Fate.DROPS_SERIES in fates.values(),
        )
        return found

    def fate(self, name: str) -> Fate:
        if name == METRIC_NAME:
            return Fate.KEPT
        if self.removed is not None and self.removed.fullmatch(name):
            return Fate.REMOVED
        if name in self.settings.pseudonyms:
            return Fate.PSEUDONYM
        if "*" in self.settings.labels or name in self.settings.labels:
            return Fate.KEPT
        return {
            Unlisted.REMOVE: Fate.REMOVED,
            Unlisted.PSEUDONYM: Fate.PSEUDONYM,
            Unlisted.DROP_SERIES: Fate.DROPS_SERIES,
        }[self.settings.unlisted]


def select(name: str, rule: AllowRule | DropRule) -> Selection:
    where = tuple((label, patterns(values)) for label, values in sorted(rule.where.items()))
    return Selection(name, patterns(rule.metrics), where)


def patterns(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(_translate(name) for name in names))


def _translate(name: str) -> str:
    # fnmatch would read ? and [ as well; a metric name that holds them means them.
    literal = name.replace("[", "[[]").replace("?", "[?]")
    return fnmatch.translate(literal)
