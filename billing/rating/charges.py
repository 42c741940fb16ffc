"""Price model: charges for meters. Each part of the period with one price, and each group, is a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from billing.charges import ChargePiece, pieces
from billing.pricing import Measured, PricedPart, PriceModel, amount_of
from billing.pricing.part import shown
from billing.pricing.percentage import Percentage
from billing.pricing.windowed import WindowedCommitment
from billing.rating.fact import Fact, hours_fact, text_fact
from billing.rating.line import Derivation, Line, RatingInput
from billing.rating.marketplace import remaining_parts, taken_line
from kernel.money import Money
from kernel.window import HOUR_MS
from metering.usage.model import MeterPart, MeterUsage

CHARGE = "charge"


def pieces_of(rated: RatingInput) -> Iterator[ChargePiece]:
    """The charges of the period in the contract's order, cut where their prices change."""
    for charge in rated.contract.charges:
        yield from pieces(charge, rated.charges[charge.charge], rated.period, rated.contract.time_zone)


def charge_lines(rated: RatingInput) -> Iterator[Line]:
    """A charge without usage has a line of zero: that nothing was used is stated, not left out."""
    for piece in pieces_of(rated):
        usage = rated.meters[piece.charge.charge, piece.window]
        if piece.charge.marketplace is not None:
            used = sum((part.quantity for part in usage.parts), Fraction(0))
            yield taken_line(rated, piece, usage.unit, used)
        for part in usage.parts or (MeterPart("", Fraction(0)),):
            yield _line(rated, piece, usage, part)


def _line(rated: RatingInput, piece: ChargePiece, usage: MeterUsage, part: MeterPart) -> Line:
    parts = tuple(_risen(each, piece) for each in piece.model.price(_measured(usage, part, piece.model)))
    quantity, of = part.quantity, f" ({piece.charge.group_by} {part.group})" if part.group else ""
    if piece.charge.marketplace is not None:
        parts, of = remaining_parts(rated, piece, *parts), " (what AWS Marketplace did not take)"
        quantity = sum((one.quantity for one in parts), Fraction(0))
    unrounded = amount_of(parts)
    amount = Money.round_half_up(unrounded, rated.currency)
    return Line(
        kind=f"{CHARGE}:{piece.charge.charge}",
        description=f"{piece.charge.description}{of}",
        period=piece.window,
        amount=amount,
        derivation=Derivation(
            quantity=quantity,
            unit=usage.unit,
            rate=None,
            unrounded=unrounded,
            rounding=Fraction(amount.amount) - unrounded,
            facts=_facts(piece, usage),
            parts=parts,
        ),
        tax=piece.charge.tax or rated.contract.tax,
        notes=_notes(usage),
        group=part.group,
    )


def _risen(part: PricedPart, piece: ChargePiece) -> PricedPart:
    """A part at the price of its term: amounts of every model rise with its prices, and as they do."""
    if not piece.uplifts:
        return part
    basis = f"{part.basis}, x {shown(piece.factor)} since its renewals"
    return replace(part, rate=part.rate * piece.factor, basis=basis)


def _measured(usage: MeterUsage, part: MeterPart, model: PriceModel) -> Measured:
    if not isinstance(model, Percentage | WindowedCommitment):  # the others look at the sum alone
        return Measured(part.quantity, usage.unit)
    hours = usage.window.length_ms // HOUR_MS
    hourly = tuple(part.hourly) or ((Fraction(0),) * hours if not part.quantity else (part.quantity,))
    return Measured(part.quantity, usage.unit, windows=hourly, events=tuple(value for value in hourly if value))


def _facts(piece: ChargePiece, usage: MeterUsage) -> tuple[Fact, ...]:
    return (
        text_fact("meter", "Meter", usage.meter),
        text_fact("catalogue", "Catalogue", usage.catalogue),
        text_fact("price_model", "Price model", piece.model.kind),
        *_uplift_facts(piece),
        hours_fact("observed_ms", "Time observed", usage.observed_ms, "series-hours"),
        hours_fact("missing_ms", "Time without data", usage.missing_ms, "series-hours"),
        hours_fact("estimated_ms", "Time estimated", usage.estimated_ms, "series-hours"),
        text_fact("revision_digest", "Usage revisions, sha256", usage.revision_digest),
    )


def _uplift_facts(piece: ChargePiece) -> Iterator[Fact]:
    if piece.uplifts:
        percents = ", ".join(f"{one:f} %" for one in piece.uplifts)
        yield text_fact("uplifts", "Risen at renewals", percents)


def _notes(usage: MeterUsage) -> tuple[str, ...]:
    notes = []
    if not usage.sealed:
        notes.append("Some hours of this period are not sealed yet: the usage can still change.")
    if usage.missing_ms > usage.estimated_ms:
        notes.append("Data is missing for a part of this period; the usage in it is unknown and not billed.")
    if usage.estimated_ms:
        notes.append("A part of this usage is estimated, by the contract's gap policy.")
    return tuple(notes)
