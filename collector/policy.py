"""What may leave the VPC: default-deny by metric, default-remove by label. Pure but for the pseudonym key."""

from __future__ import annotations

import fnmatch
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from collector.labels import METRIC_NAME
from collector.policy_settings import AllowRule, PolicySettings, Unlisted


class Policy(Protocol):
    """Decides once for each new series."""

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that may leave, `__name__` included; None: nothing of this series leaves."""


class OpenPolicy:
    """Lets everything out."""

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return labels


@dataclass(frozen=True, slots=True)
class _Rule:
    metrics: re.Pattern[str]
    labels: frozenset[str]
    every_label: bool
    pseudonyms: frozenset[str]
    unlisted: Unlisted


class AllowList:
    """The rules of `PolicySettings`. `key`: at least 16 secret bytes that never leave; makes the pseudonyms."""

    def __init__(self, settings: PolicySettings, key: bytes) -> None:
        self._key = key
        self._drop = _patterns(settings.drop) if settings.drop else None
        self._rules = [_compile(rule) for rule in settings.allow]

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that may leave. Pseudonyms depend on label name and value, so joins by label still work."""
        name = labels.get(METRIC_NAME, "")
        if self._drop is not None and (self._drop.fullmatch(name) or self._drop.fullmatch(family)):
            return None
        for rule in self._rules:
            if rule.metrics.fullmatch(name) or rule.metrics.fullmatch(family):
                return self._apply(rule, labels)
        return None

    def _apply(self, rule: _Rule, labels: dict[str, str]) -> dict[str, str] | None:
        kept: dict[str, str] = {}
        for name, value in labels.items():
            if name in rule.pseudonyms:
                kept[name] = self.pseudonym(name, value)
            elif name == METRIC_NAME or rule.every_label or name in rule.labels:
                kept[name] = value
            elif rule.unlisted is Unlisted.PSEUDONYM:
                kept[name] = self.pseudonym(name, value)
            elif rule.unlisted is Unlisted.DROP_SERIES:
                return None
        return kept

    def pseudonym(self, name: str, value: str) -> str:
        """`p-` and 80 bits of HMAC-SHA-256 over name and value."""
        return "p-" + hmac.new(self._key, f"{name}\0{value}".encode(), sha256).hexdigest()[:20]


def _compile(rule: AllowRule) -> _Rule:
    return _Rule(
        _patterns(rule.metrics),
        frozenset(rule.labels),
        "*" in rule.labels,
        frozenset(rule.pseudonyms),
        rule.unlisted,
    )


def _patterns(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(_translate(name) for name in names))


def _translate(name: str) -> str:
    # fnmatch would read ? and [ as well; a metric name that holds them means them.
    literal = name.replace("[", "[[]").replace("?", "[?]")
    return fnmatch.translate(literal)
