"""Rating: from a contract and usage to lines. Pure; one price model a file, composed here in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from billing.rating.adjusting import discount_lines, spend_lines, true_up_lines
from billing.rating.charges import charge_lines, pieces_of
from billing.rating.commitment import commitment_information
from billing.rating.line import Line, RatingInput
from billing.rating.overage import overage
from billing.rating.true_up import capacity_true_up_lines

Stage = Callable[[RatingInput, Sequence[Line]], Iterable[Line]]

MONTHLY_STAGES: tuple[Stage, ...] = (
    lambda rated, _: [commitment_information(rated)],  # first, so that a reader knows what the overage is above
    lambda rated, _: [overage(rated)],
    lambda rated, _: charge_lines(rated),
    spend_lines,  # of what was charged, before any discount
    true_up_lines,
    discount_lines,  # of all that is above
    capacity_true_up_lines,  # capacity counts towards no bound and no discount, as the committed one does not
)

__all__ = ["MONTHLY_STAGES", "pieces_of", "rate"]


def rate(rated: RatingInput) -> tuple[Line, ...]:
    """The lines of a monthly invoice, in the order of `MONTHLY_STAGES`; each stage sees the lines before it."""
    lines: tuple[Line, ...] = ()
    for stage in MONTHLY_STAGES:
        lines += tuple(stage(rated, lines))
    return lines
