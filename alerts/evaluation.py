"""Rules of one organization at one time: which alerts hold, with their labels and annotations. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from alerts.labels import fingerprint, group_key
from alerts.rule import AlertRule, RuleGroup
from kernel.ids import OrganizationId
from metering.promql.api import EvaluationError, SeriesSource, evaluate, render_labels
from metering.record import LabelSet


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An element of a rule's vector: the condition holds for these labels."""

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: float

    @property
    def group_key(self) -> str:
        return group_key(self.labels)


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule found. With an `error` nothing is known and every alert of the rule stays as it was."""

    rule: AlertRule
    active: tuple[ActiveAlert, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GroupResult:
    """All rules of a group for one organization at `at_ms` (event time)."""

    organization: OrganizationId
    group: RuleGroup
    at_ms: int
    results: tuple[RuleResult, ...]


def evaluate_group(
    organization: OrganizationId, group: RuleGroup, source: SeriesSource, at_ms: int, max_alerts: int
) -> GroupResult:
    """Every rule of the group. A rule that fails does not keep the others from being evaluated."""
    results = []
    for rule in group.rules:
        try:
            results.append(RuleResult(rule, _active(organization, rule, source, at_ms, max_alerts)))
        except EvaluationError as error:
            results.append(RuleResult(rule, (), str(error)))
    return GroupResult(organization, group, at_ms, tuple(results))


def _active(
    organization: OrganizationId, rule: AlertRule, source: SeriesSource, at_ms: int, max_alerts: int
) -> tuple[ActiveAlert, ...]:
    vector = evaluate(rule.expression, source, at_ms)
    if len(vector) > max_alerts:
        raise EvaluationError(
            f"{len(vector)} alerts, more than alerts.max_alerts_per_rule ({max_alerts}); narrow the expression"
        )
    found: dict[str, ActiveAlert] = {}
    for labels, value in vector.elements():
        alert = _make_alert(organization, rule, labels, value)
        if alert.fingerprint in found:
            shown = render_labels(tuple(sorted(alert.labels.items())))
            raise EvaluationError(f"two alerts with the labels {shown}; keep them apart by a label")
        found[alert.fingerprint] = alert
    return tuple(found.values())


def _make_alert(organization: OrganizationId, rule: AlertRule, element: LabelSet, value: float) -> ActiveAlert:
    seen = dict(element)
    labels = {name: text for name, text in seen.items() if name != "__name__"}
    labels |= {name: template.render(seen, value) for name, template in rule.labels}
    labels |= {"alertname": rule.name, "organization": organization}
    labels = {name: text for name, text in sorted(labels.items()) if text}
    annotations = {name: template.render(seen, value) for name, template in rule.annotations}
    return ActiveAlert(fingerprint(labels), labels, annotations, value)
