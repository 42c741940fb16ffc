"""What may leave the VPC: default-deny by metric, default-remove by label. Pure but for the pseudonym key."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from collector.labels import METRIC_NAME
from collector.policy_pseudonyms import Pseudonyms
from collector.policy_selection import MAX_CACHED, Fate, Fates, LabelRule, Selection, patterns, select
from collector.policy_settings import PolicySettings


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """Which labels of a series leave: as they are, or as what stands for their value (both UTF-8)."""

    kept: tuple[str, ...]
    pseudonyms: tuple[tuple[str, Mapping[bytes, bytes]], ...] = ()


class Policy(Protocol):
    """Decides once for each new series."""

    @property
    def version(self) -> str:
        """Another string when decisions may be other ones: whoever keeps decisions asks again then."""

    @property
    def now(self) -> Policy:
        """The policy that decides now, and never changes: for decisions that must be of one policy."""

    @property
    def looked_at(self) -> frozenset[str]:
        """Names of the labels whose values decide whether a series leaves, beside its name's."""

    def plan(self, family: str, labels: Mapping[str, str]) -> LabelPlan | None:
        """What becomes of each label; None: nothing of this series leaves. Of values only `looked_at` are seen."""

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that may leave, `__name__` included; None: nothing of this series leaves."""

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """The labels of an exemplar that may leave with its series; None: the exemplar stays."""

    def tells_help(self, family: str) -> bool:
        """Whether the HELP text of a family may leave with its series, if none of them has a pseudonym."""


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
    looked_at: frozenset[str] = frozenset()

    @property
    def now(self) -> OpenPolicy:
        return self

    def plan(self, family: str, labels: Mapping[str, str]) -> LabelPlan | None:
        return LabelPlan(tuple(labels))

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return labels

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        return dict(labels)

    def tells_help(self, family: str) -> bool:
        return True

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        return Decision(labels, "policy.enabled is false: all leaves", dict.fromkeys(labels, Fate.KEPT))


class ClosedPolicy:
    """Lets nothing out: no policy was ever accepted."""

    version = "closed"
    looked_at: frozenset[str] = frozenset()

    @property
    def now(self) -> ClosedPolicy:
        return self

    def plan(self, family: str, labels: Mapping[str, str]) -> LabelPlan | None:
        return None

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return None

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        return None

    def tells_help(self, family: str) -> bool:
        return False

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

    @property
    def now(self) -> Policy:
        return self.current.now

    @property
    def looked_at(self) -> frozenset[str]:
        return self.current.looked_at

    def plan(self, family: str, labels: Mapping[str, str]) -> LabelPlan | None:
        return self.current.plan(family, labels)

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        return self.current.admit(family, labels)

    def exemplar(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        return self.current.exemplar(labels)

    def tells_help(self, family: str) -> bool:
        return self.current.tells_help(family)

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        return self.current.explain(family, labels)


_Candidates = tuple[tuple[Selection, ...], tuple[LabelRule, ...]]


class AllowList:
    """The rules of `PolicySettings`. `key`: at least 16 secret bytes that never leave; makes the pseudonyms."""

    def __init__(self, settings: PolicySettings, key: bytes) -> None:
        self.version = hmac.digest(key, _rendered(settings), "sha256").hex()[:32]
        self._drop = [Selection(f"drop: {name}", patterns([name]), ()) for name in settings.drop]
        self._drop += [select(f"drop_series[{at}]", rule) for at, rule in enumerate(settings.drop_series)]
        removed = patterns(settings.remove_labels) if settings.remove_labels else None
        self._removed = removed
        self._exemplars = patterns(settings.exemplar_labels) if settings.exemplar_labels else None
        self._help = patterns(settings.help_texts) if settings.help_texts else None
        self._rules = [
            LabelRule(select(f"allow[{at}]", one), one, removed) for at, one in enumerate(settings.allow)
        ]
        self._candidates: dict[tuple[str, str], _Candidates] = {}  # by metric name and family
        self._pseudonyms = Pseudonyms(key)
        selections = [*self._drop, *(rule.selection for rule in self._rules)]
        self.looked_at = frozenset(name for one in selections for name, _ in one.where)

    @property
    def now(self) -> AllowList:
        return self

    def plan(self, family: str, labels: Mapping[str, str]) -> LabelPlan | None:
        fates = self._fates(family, labels)
        if fates is None:
            return None
        return LabelPlan(fates.kept, tuple((name, self._pseudonyms.of(name)) for name in fates.pseudonyms))

    def admit(self, family: str, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels that may leave. Pseudonyms depend on label name and value, so joins by label still work."""
        fates = self._fates(family, labels)
        if fates is None:
            return None
        kept = {name: labels[name] for name in fates.kept}
        for name in fates.pseudonyms:
            kept[name] = self.pseudonym(name, labels[name])
        return kept

    def explain(self, family: str, labels: dict[str, str]) -> Decision:
        rule = self._rule_of(family, labels)
        if rule is None:
            return Decision(None, "no rule of allow names it")
        if isinstance(rule, Selection):
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

    def tells_help(self, family: str) -> bool:
        return self._help is not None and self._help.fullmatch(family) is not None

    def _fates(self, family: str, labels: Mapping[str, str]) -> Fates | None:
        rule = self._rule_of(family, labels)
        if rule is None or isinstance(rule, Selection):
            return None
        fates = rule.fates(tuple(labels))
        return None if fates.drops else fates

    def _rule_of(self, family: str, labels: Mapping[str, str]) -> LabelRule | Selection | None:
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
            tuple(one for one in self._drop if one.names(name, family)),
            tuple(one for one in self._rules if one.selection.names(name, family)),
        )
        return found

    def pseudonym(self, name: str, value: str) -> str:
        """`p-` and 80 bits of HMAC-SHA-256 over name and value."""
        return self._pseudonyms.of(name)[value.encode()].decode()


def make_policy(settings: PolicySettings, key: bytes) -> Explained:
    """The policy that settings describe."""
    return AllowList(settings, key) if settings.enabled else OpenPolicy()


def policy_digest(settings: PolicySettings) -> str:
    """SHA-256 (hex) of a section `policy`, as the ledger names it."""
    return sha256(_rendered(settings)).hexdigest()


def _rendered(settings: PolicySettings) -> bytes:
    """The rules alone: a document's number changes no decision."""
    return settings.model_dump_json(exclude={"version"}).encode()
