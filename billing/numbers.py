"""Numbers without a gap: one counter row for each series and year, locked until the document's transaction ends.

A legal entity has two series, invoices and credit notes. The series is the counter's key; that of credit notes has
a slash, which no id of an entity may hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from billing.contract import LegalEntity
from billing.models import counters
from billing.store import insert_new
from kernel.clock import from_ms
from kernel.window import parse_zone

CREDIT_NOTES = "/credit-notes"
_COUNT_UP = (
    sa.update(counters)
    .where(counters.c.legal_entity == sa.bindparam("of"), counters.c.year == sa.bindparam("in_year"))
    .values(last_sequence=sa.bindparam("next"), last_issued_ms=sa.bindparam("at_ms"))
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a series of one year."""

    series: str  # id of the legal entity, with CREDIT_NOTES for its other series
    year: int
    sequence: int
    issued_ms: int
    issue_date: str  # in the legal entity's zone

    @property
    def text(self) -> str:
        entity, slash, _ = self.series.partition("/")
        return f"{entity.upper()}-{self.year}-{'CN' if slash else ''}{self.sequence:06d}"


def take_number(connection: sa.Connection, entity: LegalEntity, series: str, now_ms: int) -> Number:
    """The next number of the series; its row stays locked until the transaction ends, so no number is skipped.

    Within a series the issue times never decrease, whatever the clocks of several processes say.
    """
    return take_numbers(connection, entity, series, now_ms, 1)[0]


def take_numbers(
    connection: sa.Connection, entity: LegalEntity, series: str, now_ms: int, count: int
) -> list[Number]:
    """The next `count` numbers, taken with one lock."""
    zone = parse_zone(entity.time_zone)
    year = from_ms(now_ms).astimezone(zone).year
    key = {"legal_entity": series, "year": year}
    insert_new(connection, counters, {**key, "last_sequence": 0, "last_issued_ms": 0})
    row = connection.execute(sa.select(counters).filter_by(**key).with_for_update()).one()
    issued_ms = max(now_ms, row.last_issued_ms)
    issue_date = from_ms(issued_ms).astimezone(zone).date().isoformat()
    taken = [Number(series, year, row.last_sequence + 1 + n, issued_ms, issue_date) for n in range(count)]
    steps = [{"of": series, "in_year": year, "next": number.sequence, "at_ms": issued_ms} for number in taken]
    connection.execute(_COUNT_UP, steps)  # row by row: the trigger lets it count up by one alone
    return taken
