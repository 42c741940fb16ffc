"""The rows of sealed hours that one line of a document rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from billing.corrections import CORRECTION
from billing.proof.evidence import Sourced
from billing.proof.loading import window_of
from billing.proof.sections import Section
from billing.rating.charges import CHARGE
from billing.rating.marketplace import MARKETPLACE
from billing.rating.true_up import CAPACITY_TRUE_UP
from metering.usage.model import MeterRow, MeterUsage, UsageMonth
from metering.usage.rows import UsageRow

_OF_LICENCE = frozenset({"commitment", "commitment-information", "overage", CAPACITY_TRUE_UP})
_OF_CHARGE = frozenset({CHARGE, MARKETPLACE})


@dataclass(frozen=True, slots=True)
class Part:
    """A section of a document, and the revisions that it was rated from."""

    section: Section
    usage: UsageMonth
    meters: Sequence[tuple[Mapping[str, Any], MeterUsage]]  # with what the document says of each
    groups: Mapping[str, str | None] = field(default_factory=dict)  # of each charge: cluster, project or none


@dataclass(frozen=True, slots=True)
class Behind:
    """Rows of the licence's hours, or of the meter of a charge. Neither: the line rests on no hours."""

    hours: tuple[UsageRow, ...] = ()
    metered: tuple[MeterRow, ...] = ()
    meter: str = ""

    @property
    def rows(self) -> list[Sourced]:
        """All of them."""
        return [*self.hours, *self.metered]


def behind(line: Mapping[str, Any], parts: Iterable[Part]) -> Behind:
    """What `line` rests on, of the parts of its document."""
    base, _, charge = line["kind"].removeprefix(f"{CORRECTION}:").partition(":")
    if base not in _OF_LICENCE | _OF_CHARGE:
        return Behind()
    number = line.get("corrects", "")
    mine = [
        part
        for part in parts
        if part.section.number == number and part.section.is_capacity == (base == CAPACITY_TRUE_UP)
    ]
    if base in _OF_CHARGE:
        return next(_metered(line, charge, mine), Behind())
    period = window_of(line["period"])
    hours = (row for part in mine for row in part.usage.rows if row.hour.intersection(part.section.window))
    return Behind(tuple(row for row in hours if row.hour.intersection(period)))


def _metered(line: Mapping[str, Any], charge: str, parts: Iterable[Part]) -> Iterator[Behind]:
    group = line.get("group", "")
    for part in parts:
        by = part.groups.get(charge)
        for stated, usage in part.meters:
            if stated["charge"] == charge and window_of(stated) == window_of(line["period"]):
                rows = (row for row in usage.rows if not by or group == getattr(row, by))
                yield Behind(metered=tuple(rows), meter=usage.meter)
