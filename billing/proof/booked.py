"""From the database: the grants that a document could draw on, and the documents that had drawn on them."""

from __future__ import annotations

import sqlalchemy as sa

from billing.invoices import Invoice
from billing.models import draws, events, grants, invoices
from billing.pricing.credits import Grant
from billing.proof.prepaid import Booked
from kernel.money import currency, money_of_minor


def load_booked(connection: sa.Connection, invoice: Invoice) -> tuple[list[Booked], list[str], list[str]]:
    """The grants, the numbers of the documents before this one that drew, and which of them were void by then."""
    unit = currency(invoice.currency)
    query = (
        sa.select(grants)
        .where(grants.c.organization == invoice.organization, grants.c.currency == invoice.currency)
        .where(grants.c.granted_ms <= invoice.issued_ms)
        .order_by(grants.c.grant_id)
    )
    booked = [
        Booked(
            Grant(
                *(row.grant_id, row.granted_ms, row.expires_ms, row.priority),
                money_of_minor(row.minor_units, unit),
            ),
            row.reference,
        )
        for row in connection.execute(query)
    ]
    mine = connection.execute(sa.select(invoices).where(invoices.c.number == invoice.number)).one()
    key = (invoices.c.issued_ms, invoices.c.legal_entity, invoices.c.year, invoices.c.sequence)
    before = sa.tuple_(*key) < sa.tuple_(*(getattr(mine, column.name) for column in key))
    taken = (
        sa.select(invoices.c.number, events.c.at_ms)
        .join(draws, (draws.c.number == invoices.c.number) & (draws.c.event == 0))
        .join(grants, grants.c.grant_id == draws.c.grant_id)
        .outerjoin(events, (events.c.number == invoices.c.number) & (events.c.event == "void"))
        .where(grants.c.organization == invoice.organization, invoices.c.currency == invoice.currency, before)
        .distinct()
        .order_by(invoices.c.number)
    )
    rows = connection.execute(taken).all()
    void = [row.number for row in rows if row.at_ms is not None and row.at_ms <= invoice.issued_ms]
    return booked, [row.number for row in rows], void
