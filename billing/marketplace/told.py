"""What AWS Marketplace was told of each hour and what it took, from the rows of a log that only grows. Pure.

    planned -> unsent -> unanswered -> accepted | not-subscribed | other-quantity
                  ^----------'  (the call is known to have changed nothing)
    unanswered, other-quantity, accepted -> resolved, by a person who asked AWS

Only what AWS confirmed, or a person found out there, is known to be taken. Of an hour that may have been taken,
the quantity told counts as taken until somebody knows: a customer is never billed twice. Where AWS has another
quantity it may be any, and no invoice of the month is final until a person has said which.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

from billing.marketplace.terms import Subscription
from kernel.errors import InvalidInput
from kernel.window import HOUR_MS, Window

_ENCODER = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Event(StrEnum):
    """What a row of the log says. The words of answers are AWS's (UsageRecordResult, Status)."""

    PLANNED = "planned"
    SENDING = "sending"  # a call is about to begin: from here on AWS may have taken it
    RETURNED = "returned"  # that call is known to have changed nothing
    ACCEPTED = "Success"
    NOT_SUBSCRIBED = "CustomerNotSubscribed"
    OTHER_QUANTITY = "DuplicateRecord"  # AWS has another quantity of the hour, and not this one
    RESOLVED = "resolved"  # a person says what AWS has taken


class Status(StrEnum):
    """Where an hour stands."""

    UNSENT = "unsent"
    UNANSWERED = "unanswered"
    ACCEPTED = "accepted"
    NOT_SUBSCRIBED = "not-subscribed"
    OTHER_QUANTITY = "other-quantity"
    RESOLVED = "resolved"


ANSWERS = frozenset({Event.ACCEPTED, Event.NOT_SUBSCRIBED, Event.OTHER_QUANTITY})
SENDABLE = frozenset({Status.UNSENT, Status.UNANSWERED})


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an hour that one line of an invoice bills: the whole hour but at the edges of periods."""

    contract: str
    charge: str
    month: str  # of the invoice, YYYY-MM
    window: Window
    exact: Fraction  # as it was known when it was planned
    quantity: int  # of what is told for the hour


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row. `position` counts the rows of a subscription from 1; `pieces` are those of a planned hour."""

    position: int
    hour_ms: int
    event: Event
    at_ms: int
    actor: str
    pieces: tuple[Piece, ...] = ()
    taken: int | None = None  # of a resolved hour
    note: str = ""  # AWS's id of the record, or the reason of a person


@dataclass(frozen=True, slots=True)
class Hour:
    """One record of AWS Marketplace: what was told, and where it stands."""

    hour_ms: int
    pieces: tuple[Piece, ...]
    status: Status = Status.UNSENT
    attempts: int = 0  # calls whose outcome is not known
    resolved: int = 0

    @property
    def quantity(self) -> int:
        """What AWS is told, whole."""
        return sum(piece.quantity for piece in self.pieces)

    @property
    def taken(self) -> int:
        """What counts as billed by AWS."""
        if self.status is Status.RESOLVED:
            return self.resolved
        return 0 if self.status in {Status.UNSENT, Status.NOT_SUBSCRIBED} else self.quantity

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows yet what AWS took. Nothing is nothing, taken or not."""
        is_lost = self.status is Status.UNANSWERED and self.quantity > 0
        return is_lost or self.status is Status.OTHER_QUANTITY

    def taken_of(self, piece: Piece) -> int:
        """The part of `taken` that is of one piece: the first of the hour have theirs before the last."""
        left = self.taken
        for one in self.pieces[:-1]:
            mine = min(left, one.quantity)
            if one == piece:
                return mine
            left -= mine
        return left

    def after(self, row: LogRow) -> Hour:
        """The same once `row` is known. An answer that is certain is not made uncertain by a call that is lost."""
        attempts, resolved = self.attempts, self.resolved
        if row.event is Event.SENDING:
            attempts += 1
        elif row.event is Event.RETURNED or row.event in ANSWERS:
            attempts -= 1
        elif row.event is Event.RESOLVED:
            resolved = row.taken or 0
        return Hour(self.hour_ms, self.pieces, self._status(row.event, attempts), attempts, resolved)

    def _status(self, event: Event, attempts: int) -> Status:
        if event is Event.RESOLVED:
            return Status.RESOLVED
        if event is Event.ACCEPTED:
            return Status.ACCEPTED
        if self.status in {Status.ACCEPTED, Status.RESOLVED}:
            return self.status
        if event is Event.OTHER_QUANTITY or self.status is Status.OTHER_QUANTITY:
            return Status.OTHER_QUANTITY
        if attempts:  # also beside CustomerNotSubscribed: the call that was lost may have come before
            return Status.UNANSWERED
        is_refused = event is Event.NOT_SUBSCRIBED or self.status is Status.NOT_SUBSCRIBED
        return Status.NOT_SUBSCRIBED if is_refused else Status.UNSENT


def hours_of(rows: Iterable[LogRow]) -> dict[int, Hour]:
    """Every hour that was planned, by its start. Raises ValueError for a row of an hour that was not."""
    found: dict[int, Hour] = {}
    for row in sorted(rows, key=lambda one: one.position):
        if row.event is Event.PLANNED:
            found[row.hour_ms] = Hour(row.hour_ms, row.pieces)
        elif row.hour_ms in found:
            found[row.hour_ms] = found[row.hour_ms].after(row)
        else:
            raise ValueError(f"row {row.position} is of an hour that was never planned")
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """What AWS Marketplace was told of one charge in the window of one line, and what it took."""

    subscription: Subscription
    contract: str
    charge: str
    window: Window
    rows: tuple[LogRow, ...]  # of every hour that touches the window, in order
    told: int = field(init=False)  # units of hours that were sent
    taken: int = field(init=False)  # units that count as billed by AWS
    unknown: int = field(init=False)  # of these, what AWS did not confirm
    unknown_hours: int = field(init=False)
    contradicted: tuple[int, ...] = field(init=False)  # hours of which AWS has a quantity that nobody knows

    def __post_init__(self) -> None:
        mine = [(hour, piece) for hour in hours_of(self.rows).values() for piece in hour.pieces if self._has(piece)]
        unknown = [(hour, piece) for hour, piece in mine if hour.is_unknown]
        sent = (piece.quantity for hour, piece in mine if hour.status is not Status.UNSENT)
        object.__setattr__(self, "told", sum(sent))
        object.__setattr__(self, "taken", sum(hour.taken_of(piece) for hour, piece in mine))
        object.__setattr__(self, "unknown", sum(hour.taken_of(piece) for hour, piece in unknown))
        object.__setattr__(self, "unknown_hours", len(unknown))
        contradicted = (hour.hour_ms for hour, _ in unknown if hour.status is Status.OTHER_QUANTITY)
        object.__setattr__(self, "contradicted", tuple(sorted(contradicted)))

    @property
    def leaves(self) -> tuple[bytes, ...]:
        """The rows as canonical lines: all that the other figures were made from."""
        return tuple(render_row(row) for row in self.rows)

    def _has(self, piece: Piece) -> bool:
        is_mine = (piece.contract, piece.charge) == (self.contract, self.charge)
        return is_mine and piece.window.start_ms in self.window


def render_detail(row: LogRow) -> str:
    """What a row has beside its position, hour, event, time and actor, as canonical JSON."""
    found: dict[str, Any] = {}
    if row.pieces:
        found["pieces"] = [_render_piece(piece) for piece in row.pieces]
    if row.taken is not None:
        found["taken"] = str(row.taken)
    if row.note:
        found["note"] = row.note
    return _ENCODER.encode(found)


def parse_detail(text: str) -> dict[str, Any]:
    """The fields of `LogRow` in such a text. Raises ValueError, KeyError, TypeError."""
    found = json.loads(text)
    taken = found.get("taken")
    return {
        "pieces": tuple(_parse_piece(each) for each in found.get("pieces", ())),
        "taken": None if taken is None else int(taken),
        "note": str(found.get("note", "")),
    }


def render_row(row: LogRow) -> bytes:
    """One row as a line of tab-separated text; JSON escapes tabs and line feeds, names have none."""
    fields = (f"{row.position:09d}", row.hour_ms, row.event, row.at_ms, row.actor, render_detail(row))
    return ("\t".join(map(str, fields)) + "\n").encode()


def parse_log(content: bytes, source: str) -> tuple[LogRow, ...]:
    """The rows of such lines, by position. Raises InvalidInput with the line."""
    rows: list[LogRow] = []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            position, hour_ms, event, at_ms, actor, detail = line.decode().removesuffix("\n").split("\t")
            row = LogRow(int(position), int(hour_ms), Event(event), int(at_ms), actor, **parse_detail(detail))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            found, allowed = repr(error), "a row of what AWS Marketplace was told"
            raise InvalidInput.single(source, f"line {number}", found, allowed) from error
        if render_row(row) != line or (rows and row.position <= rows[-1].position):
            raise InvalidInput.single(
                source, f"line {number}", "another spelling or order", "canonical, by position"
            )
        rows.append(row)
    return tuple(rows)


def touching(rows: Sequence[LogRow], window: Window) -> tuple[LogRow, ...]:
    """Those of hours that touch a window."""
    return tuple(row for row in rows if Window(row.hour_ms, row.hour_ms + HOUR_MS).intersection(window))


def _render_piece(piece: Piece) -> dict[str, str]:
    return {
        "contract": piece.contract,
        "charge": piece.charge,
        "month": piece.month,
        "start_ms": str(piece.window.start_ms),
        "end_ms": str(piece.window.end_ms),
        "exact": str(piece.exact),
        "quantity": str(piece.quantity),
    }


def _parse_piece(found: Mapping[str, str]) -> Piece:
    return Piece(
        contract=found["contract"],
        charge=found["charge"],
        month=found["month"],
        window=Window(int(found["start_ms"]), int(found["end_ms"])),
        exact=Fraction(found["exact"]),
        quantity=int(found["quantity"]),
    )
