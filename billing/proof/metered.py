"""The meters that charges used, made again from the rows in a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract
from billing.draft import needed_meters
from billing.proof.findings import Missing
from billing.proof.loading import read_file, window_of
from billing.proof.rows import INVOICE, METERS
from kernel.errors import InvalidInput, truncate
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, Window, whole_hours
from metering.meters.catalogue import Meter
from metering.meters.parts import usage_of
from metering.meters.sealed import SealedRow, parse_leaves
from metering.usage.model import MeterRequest, MeterUsage
from metering.usage.rows import tree_root

Meters = dict[tuple[str, Window], MeterUsage]  # by charge and part of the period


def load_meters(
    folder: Path, rated: Mapping[str, Any], agreed: AgreedContract, owner: OrganizationId, period: Window
) -> Meters:
    """Every meter that the contract charges for, from its rows in `folder`; `rated` states them as `meters`.

    Raises InvalidInput: other rows than those stated, or other meters than the contract's. Raises Missing for none.
    """
    stated = rated.get("meters")
    needed = {(one.charge.charge, one.window): one.charge for one in needed_meters(agreed, period)}
    if stated is None:
        if needed:
            raise Missing("the document states no rows of meters")
        return {}
    found: Meters = {}
    for number, each in enumerate(stated, start=1):
        key = each["charge"], window_of(each)
        meter = Meter.model_validate_json(each["definition"])
        if key not in needed or needed[key].meter != each["meter"] or meter.meter != each["meter"]:
            where, allowed = f"meters[{number}]", "a charge of the contract, and its meter"
            raise InvalidInput.single(str(folder / INVOICE), where, f"{each['charge']}, {each['meter']}", allowed)
        request = MeterRequest(owner, each["meter"], key[1], needed[key].group_by, agreed.contract.gap_rule)
        found[key] = _measured(folder / METERS / f"{number}.tsv", each, meter, request)
    if found.keys() != needed.keys():
        missing = ", ".join(sorted(charge for charge, _ in needed.keys() - found.keys()))
        raise InvalidInput.single(str(folder / INVOICE), "meters", f"none of {missing}", "every charge's")
    return found


@dataclass(frozen=True, slots=True)
class StatedMeter:
    """A meter that a charge used, and its sealed rows as the bundle has them. `file`: of the bundle.

    `definitions`: where rows were made by several, from which hour (ms) on by which.
    """

    file: str
    meter: Meter
    window: Window
    rows: tuple[SealedRow, ...]
    definitions: tuple[tuple[int, Meter], ...] = ()

    @property
    def metrics(self) -> set[str]:
        """All that any definition reads."""
        meters = (self.meter, *(meter for _, meter in self.definitions))
        return {each.metric for meter in meters for each in meter.series}

    def at(self, hour_ms: int) -> Meter | None:
        """The definition that made the rows of an hour; None before there was any."""
        if not self.definitions:
            return self.meter
        return next((meter for since_ms, meter in reversed(self.definitions) if since_ms <= hour_ms), None)

    def defined_by(self, told: Iterable[tuple[int, str]], source: str) -> StatedMeter:
        """With what the evidence `source` says of definitions. Raises InvalidInput for some that can't be of it."""
        try:
            found = tuple((at_ms, Meter.model_validate_json(text)) for at_ms, text in told)
        except ValueError as error:
            where, allowed = f"statement.definitions of {self.file}", "definitions of a meter"
            raise InvalidInput.single(source, where, truncate(str(error)), allowed) from error
        defined = replace(self, definitions=found)
        starts = [at_ms for at_ms, _ in found]
        inside = {_kind(meter) for _, row in self.inside() if (meter := defined.at(row.hour_ms))}
        is_alike = inside <= {_kind(self.meter)}
        if found and (starts != sorted(set(starts)) or not is_alike):
            where, allowed = (
                f"statement.definitions of {self.file}",
                f"of rising hours, the kind and unit of {self.meter.meter}",
            )
            raise InvalidInput.single(source, where, ", ".join(map(str, starts)), allowed)
        return defined

    def inside(self) -> Iterator[tuple[int, SealedRow]]:
        """The rows of hours that touch the window, each with its place; before it are those that fill gaps."""
        hours = whole_hours(self.window)
        for place, row in enumerate(self.rows, start=1):
            if hours.start_ms <= row.hour_ms < hours.end_ms:
                yield place, row


def stated_meters(folder: Path, stated: Mapping[str, Any], owner: OrganizationId) -> tuple[StatedMeter, ...]:
    """The meters that a part of a document states, their rows in `folder`. Raises InvalidInput."""
    found = []
    for number, each in enumerate(stated.get("meters", ()), start=1):
        request = MeterRequest(owner, each["meter"], window_of(each), None)
        name = f"{METERS}/{number}.tsv"
        rows = _rows(folder / name, each, request)
        found.append(StatedMeter(name, Meter.model_validate_json(each["definition"]), request.window, rows))
    return tuple(found)


def _kind(meter: Meter) -> tuple[object, ...]:
    return meter.meter, meter.kind, meter.divisor, meter.unit


def _rows(path: Path, stated: Mapping[str, Any], request: MeterRequest) -> tuple[SealedRow, ...]:
    rows = parse_leaves(content := read_file(path), request, str(path))
    root = tree_root(content.splitlines(keepends=True)).hex()
    if root != stated["merkle_root"]:
        raise InvalidInput.single(str(path), "Merkle root", root, f"the invoice's, {stated['merkle_root']}")
    return rows


def _measured(path: Path, stated: Mapping[str, Any], meter: Meter, request: MeterRequest) -> MeterUsage:
    hours = whole_hours(request.window).length_ms // HOUR_MS
    return usage_of(meter, stated["catalogue"], request, _rows(path, stated, request), hours)
