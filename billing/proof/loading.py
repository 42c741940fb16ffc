"""Files of a bundle, read: what is missing or malformed is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from billing.document import utc_ms
from billing.proof.rows import INVOICE, ROWS, SIGNATURE, STEPS, parse_rows
from billing.proof.statement import open_signed
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.steps import StepFunction
from kernel.window import Window, hours_in
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRow, UsageRows


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with a document. `encoded`: its bytes; `is_within`: it lies inside another bundle."""

    folder: Path
    document: Mapping[str, Any]
    encoded: bytes
    authority_pem: bytes
    is_within: bool


def load_rows(folder: Path) -> tuple[UsageRow, ...]:
    """The rows in a folder. Raises InvalidInput."""
    return parse_rows(read_file(folder / ROWS), str(folder / ROWS))


def load_usage(
    folder: Path, organization: OrganizationId, period: Window, rows: tuple[UsageRow, ...]
) -> UsageMonth:
    """Rows with the steps in the folder of both, hour for hour of one sum. Raises InvalidInput."""
    step = _load_steps(folder / STEPS, period)
    sums = _sums(rows, organization, period, str(folder / ROWS))
    for hour in (each.intersection(period) for each in hours_in(period)):
        if hour and step.integral(hour) != sums.get(hour.start_ms, 0):
            found, allowed = str(step.integral(hour)), f"the sum of its rows, {sums.get(hour.start_ms, 0)}"
            raise InvalidInput.single(str(folder / STEPS), f"hour of {hour.start}", found, allowed)
    return UsageMonth(
        organization=organization,
        window=period,
        rows=UsageRows.of(organization, rows),
        step=step,
        observed_ms=sum(row.observed_ms for row in rows),
        missing_ms=sum(row.missing_ms for row in rows),
        revision_digest=sha256(read_file(folder / ROWS)).hexdigest(),  # its lines are canonical and sorted
        sealed=True,
    )


def _load_steps(path: Path, period: Window) -> StepFunction:
    """Levels of a period, none below zero. Raises InvalidInput: points out of order, or outside of it."""
    points = parse_json(read_file(path), path)
    step = StepFunction(tuple((at_ms, level) for at_ms, level in points))
    before_ms, last = period.start_ms - 1, 0
    for number, (at_ms, level) in enumerate(step.points, 1):
        if not before_ms < at_ms <= period.end_ms or level < 0 or level == last:
            allowed = "rising times in the period, at each another level, none below zero"
            raise InvalidInput.single(str(path), f"point {number}", f"{level} from {at_ms} ms on", allowed)
        before_ms, last = at_ms, level
    return step


def load_signed(folder: Path, authority_pem: bytes) -> dict[str, Any]:
    """Another document that counts, with its signature; the folder has its number. Raises InvalidInput."""
    encoded, source = read_file(folder / INVOICE), str(folder / SIGNATURE)
    statement = open_signed(read_file(folder / SIGNATURE), authority_pem, source)
    for name, value in (("number", folder.name), ("sha256", sha256(encoded).hexdigest())):
        if statement[name] != value:
            raise InvalidInput.single(source, f"statement.{name}", repr(statement[name]), repr(value))
    document: dict[str, Any] = parse_json(encoded, folder / INVOICE)
    return document


def window_of(stated: Mapping[str, Any]) -> Window:
    """`start` and `end` of a document's part."""
    return Window(utc_ms(stated["start"]), utc_ms(stated["end"]))


def _sums(rows: tuple[UsageRow, ...], organization: OrganizationId, period: Window, source: str) -> dict[int, int]:
    """Milli-vCPU-milliseconds by start of the hour."""
    sums: dict[int, int] = {}
    for number, row in enumerate(rows, 1):
        if row.organization != organization or row.hour.intersection(period) != row.hour:
            allowed = f"{organization}, within the period"
            raise InvalidInput.single(source, f"line {number}", str(row.hour), allowed)
        sums[row.hour.start_ms] = sums.get(row.hour.start_ms, 0) + row.milli_vcpu_ms
    return sums


def read_file(path: Path) -> bytes:
    """Raises InvalidInput."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput.single(str(path), "file", error.strerror, "a file of the bundle") from error


def parse_json(content: bytes, path: Path) -> Any:
    """Raises InvalidInput."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidInput.single(str(path), "JSON", str(error), "JSON") from error
