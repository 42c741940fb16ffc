"""All that a period was rated from, loaded from a bundle: as the run that made the document had it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract
from billing.basis import capacity_peak, capacity_window
from billing.draft import USAGE, MeasuredPeriod
from billing.gaps import with_gaps
from billing.proof.findings import Missing
from billing.proof.loading import load_rows, load_signed, load_usage, window_of
from billing.proof.marketplace import load_marketplace
from billing.proof.metered import load_meters
from billing.proof.rows import CAPACITY, EARLIER, INVOICE, ROWS, STEPS
from billing.rating.line import CapacityPeak
from billing.rating.true_up import due_periods
from billing.spent import spent_before
from kernel.errors import InvalidInput
from metering.usage.model import UsageMonth
from metering.usage.rows import digest_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a bundle something was rated. `stated`: the part of the document `source` that names its files."""

    folder: Path
    stated: Mapping[str, Any]
    source: str
    authority_pem: bytes

    def signed(self, name: str) -> list[dict[str, Any]]:
        """The documents of a folder, by time of issue."""
        found = [load_signed(path, self.authority_pem) for path in (self.folder / name).glob("*")]
        return sorted(found, key=lambda one: (one["issued_at"], one["number"]))


def load_measured(place: Place, agreed: AgreedContract, usage: UsageMonth) -> MeasuredPeriod:
    """Raises InvalidInput for what is not as stated, Missing for what the document does not state."""
    earlier = place.signed(EARLIER)
    for one in earlier:
        if one["contract"]["id"] != agreed.contract.contract or one["kind"] != USAGE:
            source, allowed = str(place.folder / EARLIER / one["number"] / INVOICE), "a monthly invoice of"
            found, contract = one["contract"]["id"], agreed.contract.contract
            raise InvalidInput.single(source, "contract.id", found, f"{allowed} {contract}")
    return MeasuredPeriod(
        usage,
        load_meters(place.folder, place.stated, agreed, usage.organization, usage.window),
        spent_before(agreed.contract, usage.window, earlier),
        capacity_peaks=tuple(_peaks(place, agreed, usage)),
        marketplace=load_marketplace(place.folder, place.stated, agreed, usage.window),
    )


def _peaks(place: Place, agreed: AgreedContract, usage: UsageMonth) -> Sequence[CapacityPeak]:
    due = due_periods(agreed.contract, usage.window)
    stated = place.stated.get("capacity", ())
    if due and not stated:
        raise Missing("the document does not state the usage of its capacity true-up")
    windows = [capacity_window(agreed.contract, start, end) for start, end in due]
    if windows != [window_of(each) for each in stated]:
        raise InvalidInput.single(
            place.source, "capacity", f"{len(stated)} periods", f"{len(due)}, by the contract"
        )
    found = []
    for number, ((start, end), each) in enumerate(zip(due, stated, strict=True), start=1):
        folder = place.folder / CAPACITY / str(number)
        rows = load_rows(folder)
        if digest_of(rows) != each["revision_digest"]:
            allowed = f"the document's, {each['revision_digest']}"
            raise InvalidInput.single(str(folder / ROWS), "sha256", digest_of(rows), allowed)
        rows = with_gaps(rows, each.get("gaps", ()), place.source)
        peak = capacity_peak(
            agreed.contract, start, end, load_usage(folder, usage.organization, windows[number - 1], rows)
        )
        if peak.steps_sha256 != each["steps_sha256"]:
            allowed = f"the document's, {each['steps_sha256']}"
            raise InvalidInput.single(str(folder / STEPS), "sha256", peak.steps_sha256, allowed)
        found.append(peak)
    return found
