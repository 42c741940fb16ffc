"""What reading a window gave, kept: a month is read row by row once, however often it is invoiced or looked at.

Kept of windows whose hours are all sealed, with how many revisions these have. Revisions are only ever added: while
there are as many, reading again would give the same, and with one more what was kept is passed over. Rows and
leaves are read when someone looks at them; whoever reads them sees to it that their digest is the one kept.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import sqlalchemy as sa

from kernel.ids import OrganizationId
from kernel.lazy import LazySequence
from kernel.steps import StepFunction
from kernel.window import Window
from metering.meters.catalogue import Meter
from metering.meters.models import meter_hours
from metering.meters.sealed import MeterRequest
from metering.usage.model import MeterPart, MeterUsage, UsageMonth
from metering.usage.models import usage_hours, usage_totals
from metering.usage.rows import ClusterSums, Leaves, RowSums, UsageRows

CODE = 1  # of what is kept and how: raised when the same rows would give other content


def find_month(
    connection: sa.Connection, organization: OrganizationId, window: Window, rows: Callable[[str], UsageRows]
) -> UsageMonth | None:
    """What was kept of a licence's window, if it still holds. `rows` reads them, given their digest."""
    found = _find(connection, _OF_LICENCE, organization, _licence(window))
    return None if found is None else _month(found, organization, window, rows)


def find_meter(
    connection: sa.Connection, request: MeterRequest, read: Callable[[str], MeterUsage]
) -> MeterUsage | None:
    """What was kept of a meter's, if it still holds. `read` reads it again, given its digest."""
    found = _find(connection, _OF_METER, request.organization, _metered(request), meter=request.meter)
    return None if found is None else _meter(found, request, read)


def keep_month(connection: sa.Connection, usage: UsageMonth, hours: Window, revisions: int) -> None:
    """Keep what was read of `hours` when they had so many revisions, in the place of what was kept before."""
    sums = usage.rows.sums
    content = {
        "step": usage.step.points,
        "rows": sums.rows,
        "hours": sums.hours,
        "clusters": sums.clusters,
        "digest": sums.digest,
        "root": usage.rows.root,
    }
    _keep(connection, usage.organization, _licence(usage.window), hours, revisions, content)


def keep_meter(
    connection: sa.Connection, request: MeterRequest, usage: MeterUsage, hours: Window, revisions: int
) -> None:
    """As `keep_month`, of a meter."""
    divisor = Meter.model_validate_json(usage.definition).divisor
    content = {
        "catalogue": usage.catalogue,
        "unit": usage.unit,
        "definition": usage.definition,
        "divisor": divisor,
        "parts": [
            [each.group, *each.quantity.as_integer_ratio(), len(each.hourly), _hourly_text(each, divisor)]
            for each in usage.parts
        ],
        "rows": len(usage.rows),
        "leaves": len(usage.leaves),
        "times": [usage.observed_ms, usage.missing_ms, usage.estimated_ms],
        "digest": usage.revision_digest,
        "root": usage.leaves.root,
    }
    _keep(connection, usage.organization, _metered(request), hours, revisions, content)


def _holding(hours: sa.Table, *same: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The content for a question, if its hours have as many revisions as when it was kept."""
    organization: sa.BindParameter[str] = sa.bindparam("organization")
    revisions = (
        sa.select(sa.func.count())
        .select_from(hours)
        .where(
            hours.c.organization == organization,
            hours.c.hour_ms >= usage_totals.c.start_ms,
            hours.c.hour_ms < usage_totals.c.end_ms,
            *same,
        )
    )
    return sa.select(usage_totals.c.content).where(
        usage_totals.c.organization == organization,
        usage_totals.c.question == sa.bindparam("question"),
        usage_totals.c.code == CODE,
        usage_totals.c.revisions == revisions.scalar_subquery(),
    )


# Made once: making them takes longer than what they ask for.
_OF_LICENCE = _holding(usage_hours)
_OF_METER = _holding(meter_hours, meter_hours.c.meter == sa.bindparam("meter"))


def _find(
    connection: sa.Connection, query: sa.Select[Any], organization: str, question: str, **more: str
) -> dict[str, Any] | None:
    content = connection.execute(query, {"organization": organization, "question": question, **more}).scalar()
    return None if content is None else json.loads(zlib.decompress(content))


def _keep(
    connection: sa.Connection,
    organization: OrganizationId,
    question: str,
    hours: Window,
    revisions: int,
    content: dict[str, Any],
) -> None:
    key = {"organization": organization, "question": question}
    connection.execute(sa.delete(usage_totals).filter_by(**key))
    packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode())
    values = {"start_ms": hours.start_ms, "end_ms": hours.end_ms, "revisions": revisions}
    connection.execute(usage_totals.insert().values(**key, **values, code=CODE, content=packed))


def _month(
    found: dict[str, Any], organization: OrganizationId, window: Window, read: Callable[[str], UsageRows]
) -> UsageMonth:
    clusters = tuple(ClusterSums(*each) for each in found["clusters"])
    sums = RowSums(found["rows"], found["hours"], clusters, found["digest"])
    again = cache(lambda: read(sums.digest))
    rows = UsageRows(
        organization, sums.rows, lambda: again().canonical, lambda: tuple(again()), sums, found["root"]
    )
    return UsageMonth(
        organization=organization,
        window=window,
        rows=rows,
        step=StepFunction(tuple((at_ms, level) for at_ms, level in found["step"])),
        observed_ms=sums.observed_ms,
        missing_ms=sums.missing_ms,
        revision_digest=sums.digest,
        sealed=True,
    )


def _meter(found: dict[str, Any], request: MeterRequest, read: Callable[[str], MeterUsage]) -> MeterUsage:
    again = cache(lambda: read(found["digest"]))
    observed_ms, missing_ms, estimated_ms = found["times"]
    return MeterUsage(
        organization=request.organization,
        meter=request.meter,
        catalogue=found["catalogue"],
        unit=found["unit"],
        window=request.window,
        parts=tuple(
            MeterPart(group, Fraction(numerator, denominator), _hourly(count, text, found["divisor"]))
            for group, numerator, denominator, count, text in found["parts"]
        ),
        rows=LazySequence(found["rows"], lambda: tuple(again().rows)),
        observed_ms=observed_ms,
        missing_ms=missing_ms,
        estimated_ms=estimated_ms,
        revision_digest=found["digest"],
        sealed=True,
        definition=found["definition"],
        leaves=Leaves(found["leaves"], lambda: tuple(again().leaves), found["root"]),
    )


def _hourly_text(part: MeterPart, divisor: int) -> str:
    """The meter's integers of each hour; as a text, since few price models look at them."""
    return " ".join([str(_whole(value * divisor)) for value in part.hourly])


def _hourly(count: int, text: str, divisor: int) -> LazySequence[Fraction]:
    return LazySequence(count, lambda: tuple(Fraction(int(each), divisor) for each in text.split()))


def _licence(window: Window) -> str:
    return f"licence {window.start_ms}-{window.end_ms}"


def _metered(request: MeterRequest) -> str:
    window, gaps = request.window, request.gaps
    by = request.group_by or "all"
    return f"{request.meter} {window.start_ms}-{window.end_ms} {by} {gaps.policy} {gaps.most_ms}"


def _whole(value: Fraction) -> int:
    if value.denominator != 1:
        raise AssertionError(f"{value} of a meter's integers is none")
    return value.numerator
