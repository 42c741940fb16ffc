"""From what an evaluation found to what is stored and told. Pure: rows in, rows out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from alerts.evaluation import ActiveAlert, GroupResult, RuleResult
from alerts.rule import AlertRule
from alerts.states import ANNOUNCED, TRANSITIONS, Observation, State
from metering.promql.api import render_number


@dataclass(frozen=True, slots=True)
class Instance:
    """A stored alert. Times are ms of event time."""

    organization: str
    rule_group: str
    rule: str
    fingerprint: str
    state: State
    labels: str
    annotations: str
    value: str
    group_key: str
    generator_url: str
    active_at_ms: int
    fired_at_ms: int | None = None
    kept_at_ms: int | None = None
    resolved_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One alert at one evaluation: as it was (None: unknown) and as it is (None: forgotten)."""

    before: Instance | None
    after: Instance | None

    @property
    def is_announced(self) -> bool:
        old = self.before.state if self.before else State.INACTIVE
        return self.after is not None and (old, self.after.state) in ANNOUNCED

    @property
    def is_change(self) -> bool:
        return self.before != self.after


def steps_of(result: GroupResult, known: Mapping[tuple[str, str], Instance], generator_url: str) -> Iterator[Step]:
    """The step of every alert of the group; `known` by (rule key, fingerprint), without resolved ones.

    Alerts of rules that the group no longer has are taken as no longer true.
    """
    seen = set()
    failed = {found.rule.key for found in result.results if found.error is not None}
    for found in result.results:
        for alert in found.active:
            seen.add((found.rule.key, alert.fingerprint))
            before = known.get((found.rule.key, alert.fingerprint))
            yield _true_step(result, found, alert, before, generator_url)
    rules = {found.rule.key: found.rule for found in result.results}
    for key, before in known.items():
        if key not in seen and key[0] not in failed:
            yield Step(before, _not_true(before, rules.get(key[0]), result.at_ms))


def _true_step(
    result: GroupResult, found: RuleResult, alert: ActiveAlert, before: Instance | None, generator_url: str
) -> Step:
    base = before or Instance(
        organization=result.organization,
        rule_group=result.group.name,
        rule=found.rule.key,
        fingerprint=alert.fingerprint,
        state=State.INACTIVE,
        labels=json.dumps(alert.labels, ensure_ascii=False),
        annotations="{}",
        value="",
        group_key=alert.group_key,
        generator_url=generator_url,
        active_at_ms=result.at_ms,
    )
    held = result.at_ms - base.active_at_ms >= found.rule.for_ms
    state = TRANSITIONS[base.state, Observation.HELD if held else Observation.TRUE]
    after = replace(base, state=state, kept_at_ms=None)
    if state is not base.state:
        after = replace(
            after,
            annotations=json.dumps(alert.annotations, ensure_ascii=False),
            value=render_number(alert.value),
            fired_at_ms=result.at_ms if state is State.FIRING else None,
        )
    return Step(before, after)


def _not_true(before: Instance, rule: AlertRule | None, at_ms: int) -> Instance | None:
    kept_since = before.kept_at_ms if before.kept_at_ms is not None else at_ms
    keep_ms = rule.keep_firing_for_ms if rule else 0
    kept = keep_ms > 0 and at_ms - kept_since < keep_ms
    state = TRANSITIONS[before.state, Observation.KEPT if kept else Observation.FALSE]
    if state is State.INACTIVE:
        return None
    if state is State.RESOLVED:
        return replace(before, state=state, resolved_at_ms=at_ms)
    return replace(before, kept_at_ms=kept_since)
