"""Sealed hours of the catalogue's meters in the database, written once per revision."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from kernel.database import Database
from kernel.errors import Conflict
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, Window
from metering.meters.catalogue import Catalogue
from metering.meters.hours import MeterHour, RowHour
from metering.meters.models import meter_catalogues, meter_checks, meter_hours, meter_rows
from metering.meters.sealed import render_dimensions, render_figures
from metering.meters.series import Carry, SeriesKey
from metering.usage.store import HoursMoved

CODE = 1  # of the arithmetic: raised when the same samples would give other figures


@dataclass(frozen=True, slots=True)
class MetersOfHour:
    """An hour of every meter, and what it was computed from."""

    hour: Window
    meters: Mapping[str, MeterHour]
    sources: tuple[str, ...]
    digest: str
    snapshot_id: int | None
    reason: str


class MeterStore:
    """Hours of meters and their revisions. Every method blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_catalogue(self, catalogue: Catalogue, now_ms: int) -> None:
        """Keep what its id and version mean. Raises Conflict if they meant something else before."""

        def add(connection: sa.Connection) -> None:
            query = sa.select(meter_catalogues.c.sha256).filter_by(name=catalogue.name)
            known = connection.execute(query).scalar()
            if known is None:
                values = {"sha256": catalogue.sha256, "content": catalogue.model_dump_json(), "added_ms": now_ms}
                connection.execute(meter_catalogues.insert().values(name=catalogue.name, **values))
            elif known != catalogue.sha256:
                raise Conflict(f"meter catalogue {catalogue.name} was another before: give this one a new version")

        self._database.transact(add)

    def checked(self, organization: OrganizationId, window: Window) -> dict[int, str]:
        """Digest of what each closed hour was computed from, by start of the hour."""
        return self._database.read(lambda connection: _checked(connection, organization, window))

    def state(
        self, organization: OrganizationId, meters: Sequence[str], before_ms: int
    ) -> dict[str, dict[SeriesKey, Carry]]:
        """By meter what is carried out of the hour that ends then; nothing of one that is not closed."""

        def read(connection: sa.Connection) -> dict[str, dict[SeriesKey, Carry]]:
            newest = _newest_rows(connection, organization, meters, Window(before_ms - HOUR_MS, before_ms))
            found = {meter: newest.get((meter, before_ms - HOUR_MS)) for meter in meters}
            return {meter: {} if row is None else _parse_state(row.state) for meter, row in found.items()}

        return self._database.read(read)

    def seal(
        self,
        organization: OrganizationId,
        catalogue: Catalogue,
        hours: Sequence[MetersOfHour],
        sealed_ms: int,
        expected: Mapping[int, str],
    ) -> int:
        """Store each hour of each meter as its next revision if a figure differs; returns how many it wrote.

        All in one transaction. Raises HoursMoved if another closer has sealed one since `expected` was read.
        """

        def write(connection: sa.Connection) -> int:
            if not self._database.is_sqlite:
                key = int.from_bytes(sha256(f"meters/{organization}".encode()).digest()[:8], "big", signed=True)
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            now = _checked(connection, organization, Window(hours[0].hour.start_ms, hours[-1].hour.end_ms))
            for each in hours:
                if now.get(each.hour.start_ms) != expected.get(each.hour.start_ms):
                    raise HoursMoved(f"{organization}: another closer sealed meters of {each.hour} meanwhile")
            return _Sealing(connection, organization, catalogue, sealed_ms).seal(hours)

        return self._database.transact(write) if hours else 0


@dataclass(frozen=True, slots=True)
class _Sealing:
    """Hours of one call, compared and written together."""

    connection: sa.Connection
    organization: OrganizationId
    catalogue: Catalogue
    sealed_ms: int

    def seal(self, hours: Sequence[MetersOfHour]) -> int:
        span = Window(hours[0].hour.start_ms, hours[-1].hour.end_ms)
        newest = _newest_rows(self.connection, self.organization, hours[0].meters, span)
        written: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        changed_ms: set[int] = set()
        for each in hours:
            for meter, found in each.meters.items():
                before = newest.get((meter, each.hour.start_ms))
                of_meter, state = [_row(row) for row in found.rows], _render_state(found.state)
                if before is not None and _same(self.connection, before, of_meter, state):
                    continue
                values = self._values(each, meter, 1 if before is None else before.revision + 1)
                written.append({**values, "state": zlib.compress(state)})
                key = {name: values[name] for name in ("organization", "meter", "hour_ms", "revision")}
                rows += [{**key, "number": number, **row} for number, row in enumerate(of_meter)]
                changed_ms.add(each.hour.end_ms)
        self._note(hours, changed_ms)
        for table, values_of in ((meter_hours, written), (meter_rows, rows)):
            if values_of:
                self.connection.execute(table.insert(), values_of)
        return len(written)

    def _values(self, hour: MetersOfHour, meter: str, revision: int) -> dict[str, Any]:
        return {
            "organization": self.organization,
            "meter": meter,
            "hour_ms": hour.hour.start_ms,
            "revision": revision,
            "catalogue": self.catalogue.name,
            "code": CODE,
            "sources": json.dumps(hour.sources),
            "snapshot_id": hour.snapshot_id,
            "reason": hour.reason if revision == 1 else "late",
            "sealed_ms": self.sealed_ms,
        }

    def _note(self, hours: Sequence[MetersOfHour], changed_ms: set[int]) -> None:
        """What each hour was computed from. What follows a change and is not among them is looked at again."""
        digests = {each.hour.start_ms: each.digest for each in hours}
        is_theirs = meter_checks.c.organization == self.organization
        among = meter_checks.c.hour_ms.in_(sorted(digests.keys() | changed_ms))
        self.connection.execute(sa.delete(meter_checks).where(is_theirs, among))
        rows = [{"organization": self.organization, "hour_ms": at, "digest": each} for at, each in digests.items()]
        self.connection.execute(meter_checks.insert(), rows)


def _checked(connection: sa.Connection, organization: OrganizationId, window: Window) -> dict[int, str]:
    query = sa.select(meter_checks.c.hour_ms, meter_checks.c.digest).where(
        meter_checks.c.organization == organization,
        meter_checks.c.hour_ms >= window.start_ms,
        meter_checks.c.hour_ms < window.end_ms,
    )
    return {row.hour_ms: row.digest for row in connection.execute(query)}


def _newest_rows(
    connection: sa.Connection, organization: OrganizationId, meters: Iterable[str], span: Window
) -> dict[tuple[str, int], Any]:
    """The newest revision of each meter and hour of the span."""
    query = sa.select(meter_hours).where(
        meter_hours.c.organization == organization,
        meter_hours.c.meter.in_(sorted(meters)),
        meter_hours.c.hour_ms >= span.start_ms,
        meter_hours.c.hour_ms < span.end_ms,
    )
    rows = connection.execute(query.order_by(meter_hours.c.revision))
    return {(row.meter, row.hour_ms): row for row in rows}


def _same(connection: sa.Connection, newest: Any, rows: Iterable[Mapping[str, Any]], state: bytes) -> bool:
    """Whether the newest revision says the same: not which files it came from, nor where in them it stood."""
    if zlib.decompress(newest.state) != state:
        return False
    key = {name: getattr(newest, name) for name in ("organization", "meter", "hour_ms", "revision")}
    query = sa.select(meter_rows).filter_by(**key).order_by(meter_rows.c.number)
    names = ("project", "cluster", "dimensions", "observed_ms", "missing_ms", "figures")
    stored = [{name: row[name] for name in names} for row in connection.execute(query).mappings()]
    return stored == [{name: row[name] for name in names} for row in rows]


def _row(row: RowHour) -> dict[str, Any]:
    return {
        "project": row.key.project,
        "cluster": row.key.cluster,
        "dimensions": render_dimensions(row),
        "observed_ms": sum(piece.observed_ms for piece in row.pieces),
        "missing_ms": sum(piece.missing_ms for piece in row.pieces),
        "figures": render_figures(row),
        "places": row.places,
    }


def _render_state(state: Mapping[SeriesKey, Carry]) -> bytes:
    rows = [[*key, each.last_ms, each.value_ms, each.value, each.is_ended] for key, each in sorted(state.items())]
    return json.dumps(rows, separators=(",", ":")).encode()


def _parse_state(content: bytes) -> dict[SeriesKey, Carry]:
    return {
        (project, collector, labels): Carry(last_ms, value_ms, value, is_ended)
        for project, collector, labels, last_ms, value_ms, value, is_ended in json.loads(zlib.decompress(content))
    }
