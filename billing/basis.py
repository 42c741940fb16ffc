"""What a document says of the usage it was rated from, beside rows and levels: its lines can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

from billing.contract import Contract
from billing.fields import midnight_ms
from billing.gaps import render_gaps
from billing.marketplace.told import Told
from billing.proof.rows import render_steps
from billing.rating.bases import excess_of
from billing.rating.line import CapacityPeak
from kernel.window import Window
from metering.usage.filling import fill
from metering.usage.model import MeterUsage, UsageMonth

if TYPE_CHECKING:
    from billing.draft import MeasuredPeriod

Gaps = tuple[Mapping[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Basis:
    """Of a correction. `gaps`: as `usage.gaps` states them; None where the contract fills none."""

    steps_sha256: str  # of the organization's levels, as a bundle's file
    gaps: Gaps | None = None
    meters: tuple[tuple[str, MeterUsage], ...] = ()  # of the charges, each with its id
    peaks: tuple[CapacityPeak, ...] = ()
    marketplace: tuple[Told, ...] = ()  # what AWS Marketplace took of the charges that it bills


def basis_of(contract: Contract, measured: MeasuredPeriod) -> Basis:
    """The basis of a period as it was rated."""
    meters, marketplace = measured.meters, measured.marketplace
    return Basis(
        steps_sha256=steps_sha256_of(measured.usage),
        gaps=stated_gaps(contract, measured.usage),
        meters=tuple((key[0], meters[key]) for key in sorted(meters)),
        peaks=measured.capacity_peaks,
        marketplace=tuple(marketplace[key] for key in sorted(marketplace)),
    )


def capacity_window(contract: Contract, start: date, end: date) -> Window:
    """A period of a capacity true-up, `end` its first day after."""
    return Window(midnight_ms(start, contract.time_zone), midnight_ms(end, contract.time_zone))


def capacity_peak(contract: Contract, start: date, end: date, usage: UsageMonth) -> CapacityPeak:
    """The highest use above the commitment in a period of a capacity true-up, gaps filled as the contract says."""
    window = usage.window
    above = excess_of(fill(usage, contract.gap_rule).step, contract.timeline, window).maximum(window)
    return CapacityPeak(
        *(start, end, window, above),
        revision_digest=usage.revision_digest,
        steps_sha256=steps_sha256_of(usage),
        gaps=stated_gaps(contract, usage),
    )


def stated_gaps(contract: Contract, usage: UsageMonth) -> Gaps | None:
    """The gaps as a document states them; None where its contract fills none."""
    return tuple(render_gaps(usage.rows)) if contract.gap_policy != "not-billed" else None


def steps_sha256_of(usage: UsageMonth) -> str:
    """Of `steps.json`."""
    return sha256(render_steps(usage)).hexdigest()
