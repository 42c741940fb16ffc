"""The one transaction of an evaluation: states, what receivers are to be told, and how far evaluation has come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from alerts import models
from alerts.evaluation import GroupResult
from alerts.lifecycle import Instance, Step, steps_of
from alerts.settings import ReceiverSettings
from alerts.states import State
from kernel.crashpoints import crash_point
from kernel.database import insert, upsert

ALIVE = (State.PENDING.value, State.FIRING.value)


@dataclass(frozen=True, slots=True)
class TickContext:
    """What a tick needs beside its results. `now_ms` is the clock."""

    receivers: Sequence[ReceiverSettings]
    external_url: str
    now_ms: int

    def told(self, labels: dict[str, str]) -> list[str]:
        """The receivers whose matchers the labels meet."""
        return [
            receiver.name for receiver in self.receivers if not receiver.only_as_fallback and receiver.wants(labels)
        ]


def apply_ticks(connection: sa.Connection, results: Iterable[GroupResult], context: TickContext) -> Counter[str]:
    """Store the results, in order; returns how many alerts changed, by new state.

    A result that is not newer than what is stored is skipped: another process evaluated that time already, and
    its transitions are not told twice.
    """
    changed: Counter[str] = Counter()
    for result in results:
        if _advance(connection, result):
            changed.update(_apply(connection, result, context))
    crash_point("alerts.tick_before_commit")
    return changed


def _advance(connection: sa.Connection, result: GroupResult) -> bool:
    errors = {found.rule.key: found.error for found in result.results if found.error is not None}
    statement: Any = insert(connection, models.progress).values(
        organization=result.organization,
        rule_group=result.group.name,
        evaluated_at_ms=result.at_ms,
        errors=json.dumps(errors, ensure_ascii=False),
    )
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["organization", "rule_group"],
        set_={"evaluated_at_ms": new.evaluated_at_ms, "errors": new.errors},
        where=models.progress.c.evaluated_at_ms < new.evaluated_at_ms,
    ).returning(models.progress.c.organization)
    return connection.execute(statement).first() is not None


def _apply(connection: sa.Connection, result: GroupResult, context: TickContext) -> Counter[str]:
    known = {(found.rule, found.fingerprint): found for found in _load_alive(connection, result)}
    url = generator_url(context.external_url, result.group.name)
    changes = [step for step in steps_of(result, known, url) if step.is_change]
    upsert(connection, models.instances, [asdict(step.after) for step in changes if step.after])
    for step in changes:
        if step.after is None and step.before is not None:
            connection.execute(sa.delete(models.instances).where(_is(step.before)))
    rows = [row for step in changes for row in _told(step, context)]
    if rows:
        connection.execute(sa.insert(models.outbox), rows)
    return Counter(step.after.state.value for step in changes if step.after and _changes_state(step))


def _changes_state(step: Step) -> bool:
    return step.before is None or step.after is None or step.before.state is not step.after.state


def _load_alive(connection: sa.Connection, result: GroupResult) -> list[Instance]:
    table = models.instances
    rows = connection.execute(
        sa.select(table).where(
            table.c.organization == result.organization,
            table.c.rule_group == result.group.name,
            table.c.state.in_(ALIVE),
        )
    ).mappings()
    return [load_instance(row) for row in rows]


def load_instance(row: Any) -> Instance:
    """An instance from its row."""
    return Instance(**{**row, "state": State(row["state"])})


def _is(instance: Instance) -> sa.ColumnElement[bool]:
    table = models.instances
    return sa.and_(
        table.c.organization == instance.organization,
        table.c.rule_group == instance.rule_group,
        table.c.rule == instance.rule,
        table.c.fingerprint == instance.fingerprint,
    )


def _told(step: Step, context: TickContext) -> list[dict[str, Any]]:
    """One outbox row for each receiver that hears of the step."""
    after = step.after
    if after is None or not step.is_announced:
        return []
    return [
        {
            "receiver": receiver,
            "organization": after.organization,
            "group_key": after.group_key,
            "kind": after.state.value,
            "fingerprint": after.fingerprint,
            "labels": after.labels,
            "annotations": after.annotations,
            "generator_url": after.generator_url,
            "starts_at_ms": after.fired_at_ms,
            "ends_at_ms": after.resolved_at_ms,
            "created_ms": context.now_ms,
        }
        for receiver in context.told(json.loads(after.labels))
    ]


def generator_url(external_url: str, group: str) -> str:
    """Where the rule can be looked up; empty without an external URL."""
    return f"{external_url.rstrip('/')}/alerts?group={quote(group, safe='')}" if external_url else ""


def retire_groups(connection: sa.Connection, groups: Iterable[str], context: TickContext, at_ms: int) -> int:
    """Resolve what fires by groups that are no longer loaded; returns how many alerts ended."""
    table = models.instances
    rows = connection.execute(
        sa.select(table).where(table.c.rule_group.not_in(list(groups)), table.c.state.in_(ALIVE))
    ).mappings()
    ended = [load_instance(row) for row in rows]
    for before in ended:
        if before.state is State.PENDING:
            connection.execute(sa.delete(table).where(_is(before)))
            continue
        after = Instance(**{**asdict(before), "state": State.RESOLVED, "resolved_at_ms": at_ms})
        upsert(connection, table, [asdict(after)])
        rows_told = _told(Step(before, after), context)
        if rows_told:
            connection.execute(sa.insert(models.outbox), rows_told)
    connection.execute(sa.delete(models.progress).where(models.progress.c.rule_group.not_in(list(groups))))
    return len(ended)
