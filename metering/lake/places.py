"""Where a lake keeps what it has."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.objects import ObjectStore
from metering.lake.horizon_store import HorizonStore
from metering.lake.tables import Tables


@dataclass(frozen=True, slots=True)
class Places:
    """Tables; objects (dead letters, lineages); horizons among these."""

    tables: Tables
    horizons: HorizonStore
    objects: ObjectStore
