"""What reading a window gave, kept: a month is read row by row once, however often it is invoiced or looked at.

Kept of windows whose hours are all sealed, with how many revisions these have. Revisions are only ever added: while
there are as many, reading again would give the same, and with one more what was kept is passed over. Rows and
leaves are read when someone looks at them; whoever reads them sees to it that their digest is the one kept.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache, partial
from typing import Any

import sqlalchemy as sa

from kernel.database import upsert
from kernel.ids import OrganizationId
from kernel.lazy import LazySequence
from kernel.steps import StepFunction
from kernel.window import Window
from metering.meters.catalogue import Meter
from metering.meters.models import meter_hours
from metering.usage.model import MeterPart, MeterRequest, MeterUsage, UsageMonth
from metering.usage.models import usage_hours, usage_totals
from metering.usage.rows import ClusterSums, Leaves, RowSums, UsageRows

CODE = 1  # of what is kept and how: raised when the same rows would give other content


def find_month(
    connection: sa.Connection, organization: OrganizationId, window: Window, rows: Callable[[str], UsageRows]
) -> UsageMonth | None:
    """What was kept of a licence's window, if it still holds. `rows` reads them, given their digest."""
    kept = connection.execute(_KEPT, {"organization": organization, "questions": [_licence(window)]}).first()
    if kept is None:
        return None
    # Counted after it was read: revisions are only added, so as many as then are those of then.
    span = {"organization": organization, "start_ms": kept.start_ms, "end_ms": kept.end_ms}
    is_same = connection.execute(_LICENCE_REVISIONS, span).scalar_one() == kept.revisions
    return _month(_unpacked(kept.content), organization, window, rows) if is_same else None


def find_meters(
    connection: sa.Connection,
    requests: Sequence[MeterRequest],
    read: Callable[[MeterRequest, str], MeterUsage],
) -> dict[MeterRequest, MeterUsage]:
    """What was kept of an organization's meters, where it still holds. `read` reads one again, given its digest."""
    if not requests:
        return {}
    organization = requests[0].organization
    by_question = {_metered(request): request for request in requests}
    kept = connection.execute(_KEPT, {"organization": organization, "questions": list(by_question)}).all()
    revisions: dict[tuple[str, int, int], int] = {}
    asked = {"organization": organization, "meters": sorted({request.meter for request in requests})}
    for start_ms, end_ms in {(each.start_ms, each.end_ms) for each in kept}:
        span = asked | {"start_ms": start_ms, "end_ms": end_ms}
        revisions |= {(meter, start_ms, end_ms): count for meter, count in connection.execute(_REVISIONS, span)}
    found = {}
    for each in kept:
        request = by_question[each.question]
        if revisions.get((request.meter, each.start_ms, each.end_ms)) == each.revisions:
            found[request] = _meter(_unpacked(each.content), request, partial(read, request))
    return found


def keep_month(connection: sa.Connection, usage: UsageMonth, hours: Window, revisions: int) -> None:
    """Keep what was read of `hours` when they had so many revisions, in the place of what was kept before."""
    sums = usage.rows.sums
    content = {
        "step": usage.step.points,
        "rows": sums.rows,
        "hours": sums.hours,
        "clusters": sums.clusters,
        "digest": usage.rows.digest,
        "root": usage.rows.root,
    }
    _keep(connection, usage.organization, _licence(usage.window), hours, revisions, content)


ReadMeter = tuple[MeterRequest, MeterUsage, Window, int]  # with the hours that were read and their revisions


def keep_meters(connection: sa.Connection, read: Iterable[ReadMeter]) -> None:
    """As `keep_month`, of meters."""
    for request, usage, hours, revisions in read:
        _keep(connection, usage.organization, _metered(request), hours, revisions, _content(usage))


def _content(usage: MeterUsage) -> dict[str, Any]:
    divisor = Meter.model_validate_json(usage.definition).divisor
    return {
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


# Made once: making them takes longer than what they ask for.
_KEPT = sa.select(
    usage_totals.c.question,
    usage_totals.c.start_ms,
    usage_totals.c.end_ms,
    usage_totals.c.revisions,
    usage_totals.c.content,
).where(
    usage_totals.c.organization == sa.bindparam("organization"),
    usage_totals.c.question.in_(sa.bindparam("questions", expanding=True)),
    usage_totals.c.code == CODE,
)
_REVISIONS = (
    sa.select(meter_hours.c.meter, sa.func.count())
    .where(
        meter_hours.c.organization == sa.bindparam("organization"),
        meter_hours.c.meter.in_(sa.bindparam("meters", expanding=True)),
        meter_hours.c.hour_ms >= sa.bindparam("start_ms"),
        meter_hours.c.hour_ms < sa.bindparam("end_ms"),
    )
    .group_by(meter_hours.c.meter)
)
_LICENCE_REVISIONS = sa.select(sa.func.count()).where(
    usage_hours.c.organization == sa.bindparam("organization"),
    usage_hours.c.hour_ms >= sa.bindparam("start_ms"),
    usage_hours.c.hour_ms < sa.bindparam("end_ms"),
)


def _unpacked(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(content))
    return found


def _keep(
    connection: sa.Connection,
    organization: OrganizationId,
    question: str,
    hours: Window,
    revisions: int,
    content: dict[str, Any],
) -> None:
    row = {
        "organization": organization,
        "question": question,
        "start_ms": hours.start_ms,
        "end_ms": hours.end_ms,
        "revisions": revisions,
        "code": CODE,
        "content": zlib.compress(json.dumps(content, separators=(",", ":")).encode()),
    }
    upsert(connection, usage_totals, [row])


def _month(
    found: dict[str, Any], organization: OrganizationId, window: Window, read: Callable[[str], UsageRows]
) -> UsageMonth:
    clusters = tuple(ClusterSums(*each) for each in found["clusters"])
    sums = RowSums(found["rows"], found["hours"], clusters)
    again = cache(lambda: read(found["digest"]))
    rows = UsageRows(
        organization,
        sums.rows,
        lambda: again().canonical,
        lambda: tuple(again()),
        sums,
        (found["digest"], found["root"]),
    )
    return UsageMonth(
        organization=organization,
        window=window,
        rows=rows,
        step=StepFunction(tuple((at_ms, level) for at_ms, level in found["step"])),
        observed_ms=sums.observed_ms,
        missing_ms=sums.missing_ms,
        revision_digest=found["digest"],
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
