"""What may leave the VPC: default-deny by metric, default-remove by label. Pure but for the pseudonym key."""

from __future__ import annotations

import fnmatch
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

from collector.labels import METRIC_NAME
from collector.policy_settings import AllowRule, DropRule, PolicySettings, Unlisted

MAX_CACHED = 50_000  # names, label names and pseudonyms that are kept; a target chooses how many there are


class Policy(Protocol):
    """Decides once for each new series."""

    @property
    def version(self) -> str:
        """Another string when decisions may be other ones: whoever keeps decisions asks again then."""

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that may leave, `__name__` included; None: nothing of this series leaves."""

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """The labels of an exemplar that may leave with its series; None: the exemplar stays."""


class Fate(StrEnum):
    """What a rule does with a label."""

    KEPT = "kept"
    PSEUDONYM = "pseudonym"
    REMOVED = "removed"
    DROPS_SERIES = "drops_series"


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a series leaves or stays. `fates`: by label, in the rule that decided."""

    labels: dict[str, str] | None
    reason: str
    fates: Mapping[str, Fate] = field(default_factory=dict)


class Explained(Policy, Protocol):
    """A policy that can say why."""

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        """The same decision as `admit`, with its reason."""


class OpenPolicy:
    """Lets everything out."""

    version = "open"

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return labels

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        return dict(labels)

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        return Decision(labels, "policy.enabled is false: all leaves", dict.fromkeys(labels, Fate.KEPT))


class ClosedPolicy:
    """Lets nothing out: no policy was ever accepted."""

    version = "closed"

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return None

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        return None

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        return Decision(None, "no policy was ever accepted: nothing leaves")


class LivePolicy:
    """The policy that holds now; the one object that scraping asks. A change is one assignment, so thread-safe.

    Read `version` before asking for decisions, so that a change in between is seen at the next look.
    """

    def __init__(self, policy: Explained) -> None:
        self.current = policy

    @property
    def version(self) -> str:
        return self.current.version

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return self.current.admit(family, labels)

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        return self.current.exemplar(labels)

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        return self.current.explain(family, labels)


@dataclass(slots=True)
class _Selection:
    """Which series a rule is about."""

    name: str  # of the rule, for people
    metrics: re.Pattern[str]
    where: tuple[tuple[str, re.Pattern[str]], ...]

    def holds(self, labels: Mapping[str, str]) -> bool:
        return all(pattern.fullmatch(labels.get(name, "")) for name, pattern in self.where)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a rule does with series of these label names. `drops`: the series stays."""

    kept: tuple[str, ...]
    pseudonyms: tuple[str, ...]
    drops: bool


@dataclass(slots=True)
class _Rule:
    selection: _Selection
    settings: AllowRule
    removed: re.Pattern[str] | None
    plans: dict[tuple[str, ...], _Plan] = field(default_factory=dict)  # by label names, as met

    def plan(self, names: tuple[str, ...]) -> _Plan:
        if len(self.plans) >= MAX_CACHED:
            self.plans.clear()
        fates = {name: self.fate(name) for name in names}
        made = self.plans[names] = _Plan(
            tuple(name for name in names if fates[name] is Fate.KEPT),
            tuple(name for name in names if fates[name] is Fate.PSEUDONYM),
            Fate.DROPS_SERIES in fates.values(),
        )
        return made

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


_Candidates = tuple[tuple[_Selection, ...], tuple[_Rule, ...]]


class AllowList:
    """The rules of `PolicySettings`. `key`: at least 16 secret bytes that never leave; makes the pseudonyms."""

    def __init__(self, settings: PolicySettings, key: bytes) -> None:
        # HMAC (RFC 2104) with both halves of the key taken in once: `hmac` takes thrice as long for each value.
        block = (sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))
        self.version = hmac.digest(key, _rendered(settings), "sha256").hex()[:32]
        self._drop = [_Selection(f"drop: {name}", _patterns([name]), ()) for name in settings.drop]
        self._drop += [_select(f"drop_series[{at}]", rule) for at, rule in enumerate(settings.drop_series)]
        removed = _patterns(settings.remove_labels) if settings.remove_labels else None
        self._removed = removed
        self._exemplars = _patterns(settings.exemplar_labels) if settings.exemplar_labels else None
        self._rules = [_Rule(_select(f"allow[{at}]", one), one, removed) for at, one in enumerate(settings.allow)]
        self._candidates: dict[tuple[str, str], _Candidates] = {}  # by metric name and family
        self._pseudonyms: dict[tuple[str, str], str] = {}

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that may leave. Pseudonyms depend on label name and value, so joins by label still work."""
        rule = self._rule_of(family, labels)
        if rule is None or rule.__class__ is _Selection:
            return None
        assert isinstance(rule, _Rule)
        names = tuple(labels)
        plan = rule.plans.get(names) or rule.plan(names)
        if plan.drops:
            return None
        kept = {name: labels[name] for name in plan.kept}
        for name in plan.pseudonyms:
            value = labels[name]
            kept[name] = self._pseudonyms.get((name, value)) or self.pseudonym(name, value)
        return kept

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        rule = self._rule_of(family, labels)
        if rule is None:
            return Decision(None, "no rule of allow names it")
        if isinstance(rule, _Selection):
            return Decision(None, rule.name)
        fates = {name: rule.fate(name) for name in labels}
        kept = self.admit(family, labels)
        if kept is None:
            names = ", ".join(name for name, fate in fates.items() if fate is Fate.DROPS_SERIES)
            return Decision(None, f"{rule.selection.name}: unlisted label {names}", fates)
        return Decision(kept, rule.selection.name, fates)

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        allowed, removed = self._exemplars, self._removed
        if allowed is None:
            return None
        kept = {name: value for name, value in labels.items() if allowed.fullmatch(name)}
        return {name: value for name, value in kept.items() if removed is None or not removed.fullmatch(name)}

    def _rule_of(self, family: str, labels: Mapping[str, str]) -> _Rule | _Selection | None:
        """The rule that lets it out, or the selection that keeps it in, or None: nothing names it."""
        key = labels.get(METRIC_NAME, ""), family
        drop, rules = self._candidates.get(key) or self._named(*key)
        for selection in drop:
            if selection.holds(labels):
                return selection
        for rule in rules:
            if not rule.selection.where or rule.selection.holds(labels):
                return rule
        return None

    def _named(self, name: str, family: str) -> _Candidates:
        if len(self._candidates) >= MAX_CACHED:
            self._candidates.clear()
        found = self._candidates[name, family] = (
            tuple(one for one in self._drop if _names(one, name, family)),
            tuple(one for one in self._rules if _names(one.selection, name, family)),
        )
        return found

    def pseudonym(self, name: str, value: str) -> str:
        """`p-` and 80 bits of HMAC-SHA-256 over name and value."""
        if len(self._pseudonyms) >= MAX_CACHED:
            self._pseudonyms.clear()
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{name}\0{value}".encode())
        outer.update(inner.digest())
        found = self._pseudonyms[name, value] = "p-" + outer.hexdigest()[:20]
        return found


def make_policy(settings: PolicySettings, key: bytes) -> Explained:
    """The policy that settings describe."""
    return AllowList(settings, key) if settings.enabled else OpenPolicy()


def policy_digest(settings: PolicySettings) -> str:
    """SHA-256 (hex) of a section `policy`, as the ledger names it."""
    return sha256(_rendered(settings)).hexdigest()


def _rendered(settings: PolicySettings) -> bytes:
    """The rules alone: a document's number changes no decision."""
    return settings.model_dump_json(exclude={"version"}).encode()


def _names(selection: _Selection, name: str, family: str) -> bool:
    return bool(selection.metrics.fullmatch(name) or selection.metrics.fullmatch(family))


def _select(name: str, rule: AllowRule | DropRule) -> _Selection:
    where = tuple((label, _patterns(values)) for label, values in sorted(rule.where.items()))
    return _Selection(name, _patterns(rule.metrics), where)


def _patterns(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(_translate(name) for name in names))


def _translate(name: str) -> str:
    # fnmatch would read ? and [ as well; a metric name that holds them means them.
    literal = name.replace("[", "[[]").replace("?", "[?]")
    return fnmatch.translate(literal)
