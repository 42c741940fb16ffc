"""Deterministic samples with jitter, resets and gaps, for our head and for Prometheus alike."""

from __future__ import annotations

import random
from collections.abc import Iterable

from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.promql.api import Head, HeadLimits
from metering.promql.organization import OrganizationHead
from metering.record import BatchHeader, LabelSet, Lane, make_batch

BASE_MS = 1_760_000_000_000
STEP_MS = 15_000
STEPS = 80
TENANT = Tenant(OrganizationId("org-a"), ProjectId("project-1"))
Row = tuple[LabelSet, int, float]


def labels(name: str, **others: str) -> LabelSet:
    return tuple(sorted({"__name__": name, **others}.items()))


def dataset(seed: int = 7) -> list[Row]:
    """Twenty minutes of three metrics, in order of time."""
    dice = random.Random(seed)
    rows: list[Row] = []
    for job in ("api", "web"):
        for instance in ("1", "2", "3"):
            for code in ("200", "500"):
                rows += _counter(dice, labels("requests_total", job=job, instance=instance, code=code))
    for room in ("attic", "cellar", "hall", "kitchen"):
        rows += _gauge(dice, labels("temperature", room=room, unit="C"), 20)
        rows += _gauge(dice, labels("limit", room=room), 21)
    rows += _gauge(dice, labels("signed", sign="mixed"), 0)
    rows += [(labels("stopped", room="attic"), BASE_MS + 3, 4.0)]
    return sorted(rows, key=lambda row: row[1])


def _times(dice: random.Random) -> Iterable[int]:
    for step in range(STEPS):
        if dice.random() > 0.05:
            yield BASE_MS + step * STEP_MS + dice.randrange(0, 200) * 10 + 3


def _counter(dice: random.Random, of: LabelSet) -> list[Row]:
    value, rows = 1e6 * dice.random(), []
    for at_ms in _times(dice):
        value = 0.0 if dice.random() < 0.03 else value + dice.randrange(0, 50)
        rows.append((of, at_ms, value))
    return rows


def _gauge(dice: random.Random, of: LabelSet, around: float) -> list[Row]:
    return [(of, at_ms, round(dice.gauss(around, 3), 3)) for at_ms in _times(dice)]


def fill(rows: Iterable[Row], limits: HeadLimits | None = None) -> OrganizationHead:
    """A head that took the rows in one batch."""
    listed = list(rows)
    head = Head(limits or HeadLimits())
    received_ms = max(row[1] for row in listed)
    header = BatchHeader(TENANT, CollectorId("collector-1"), Lane.BILLING, received_ms, "")
    head.ingest_batch(header, make_batch(listed))
    return head.source(TENANT.organization)


def render_openmetrics(rows: Iterable[Row]) -> str:
    """The same samples as text, metric by metric and series by series, as promtool reads them."""
    lines = []
    for series, at_ms, value in sorted(rows):
        name = dict(series)["__name__"]
        inner = ",".join(f'{key}="{text}"' for key, text in series if key != "__name__")
        lines.append(f"{name}{{{inner}}} {value!r} {at_ms / 1000:.3f}\n")
    return "".join(lines) + "# EOF\n"
