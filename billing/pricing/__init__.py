"""Price models: from a measured quantity to exact parts of a line. Pure; one model a file.

Each model is also its own schema, so a price book that parses is one that can be rated. What looks at more than one
charge (least and most spend, discounts, prepaid credits) is beside them in files of its own, and works on rounded
lines.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from billing.pricing.blocks import BlockTiersPrice
from billing.pricing.flat_tier import FlatPerTier
from billing.pricing.graduated import Graduated
from billing.pricing.package import Package
from billing.pricing.part import Measured, PricedPart, amount_of
from billing.pricing.per_unit import PerUnit
from billing.pricing.percentage import Percentage
from billing.pricing.volume import Volume
from billing.pricing.windowed import WindowedCommitment

PriceModel = Annotated[
    PerUnit | Graduated | Volume | Package | FlatPerTier | Percentage | WindowedCommitment | BlockTiersPrice,
    Field(discriminator="kind"),
]

__all__ = ["Measured", "PriceModel", "PricedPart", "amount_of"]
