"""Rating: from a contract and usage to lines. Pure; one price model a file, composed here in their order."""

from __future__ import annotations

from collections.abc import Callable

from billing.rating.commitment import commitment_information
from billing.rating.line import Line, RatingInput
from billing.rating.overage import overage

PriceModel = Callable[[RatingInput], Line]

MONTHLY_MODELS: tuple[PriceModel, ...] = (
    commitment_information,  # first, so that a reader knows what the overage is above
    overage,
)


def rate(rated: RatingInput) -> tuple[Line, ...]:
    """The lines of a monthly invoice, in the order of `MONTHLY_MODELS`."""
    return tuple(model(rated) for model in MONTHLY_MODELS)
