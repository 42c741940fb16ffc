"""Rules as values. `alerts.rulefile` makes them from files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from alerts.template import Template
from metering.promql.api import Expression, selectors_of

SILENCE_METRIC = "byoc_collector_silence_seconds"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alerting rule. Durations are ms."""

    name: str
    expression_text: str
    expression: Expression
    for_ms: int
    keep_firing_for_ms: int
    labels: tuple[tuple[str, Template], ...]
    annotations: tuple[tuple[str, Template], ...]

    @property
    def key(self) -> str:
        """Name of the rule within its group: survives a change of expression and of order, not of labels."""
        text = repr([(name, template.text) for name, template in self.labels])
        return f"{self.name}:{sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated together, each `interval_ms`."""

    name: str
    interval_ms: int
    rules: tuple[AlertRule, ...]

    @property
    def reads_clock(self) -> bool:
        """True when a rule asks how long a collector has been silent: such a group never waits for a collector."""
        return SILENCE_METRIC in metrics_of([self])

    @property
    def reach_ms(self) -> int:
        """How far before the evaluation time its rules read."""
        reaches = [reach for rule in self.rules for _, reach in selectors_of(rule.expression)]
        return max(reaches, default=0)


def metrics_of(groups: Iterable[RuleGroup]) -> frozenset[str]:
    """The metric names that the rules read."""
    selectors = [found for group in groups for rule in group.rules for found, _ in selectors_of(rule.expression)]
    return frozenset(selector.metric for selector in selectors if selector.metric is not None)
