"""Which credit notes belong to the close of a month: those for usage that came late, once the month had ended.

They are due once, so a run that is made again after a death finds nothing due any more; what the run before it
issued is found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from billing.agreed import agreed_on
from billing.corrections import CREDIT
from billing.draft import CREDIT_NOTE, USAGE
from billing.invoices import Invoice, find_documents, standing
from billing.models import invoices
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, month

_EAST_MS = 14 * HOUR_MS  # the month ends so much earlier than in UTC where it ends first


def credited_at_close(
    connection: sa.Connection, organizations: Sequence[OrganizationId], name: str
) -> dict[OrganizationId, list[Invoice]]:
    """By organization its standing credit notes for late usage, issued since the month ended and before the next
    monthly invoice of their contract; in order of issue.
    """
    found: dict[OrganizationId, list[Invoice]] = {one: [] for one in organizations}
    since = invoices.c.issued_ms >= month(name).end_ms - _EAST_MS
    of_them = invoices.c.organization.in_(list(found))
    notes = find_documents(connection, (invoices.c.kind == CREDIT_NOTE) & since & of_them)
    for note in standing(connection, _of_month(connection, notes, name)):
        found[note.organization].append(note)
    return found


def _of_month(connection: sa.Connection, notes: Sequence[Invoice], name: str) -> Iterator[Invoice]:
    for note in notes:
        document = note.document
        if any(line["kind"].startswith(f"{CREDIT}:") for line in document["lines"]):
            continue  # a person wrote it
        ended_ms = month(name, agreed_on(document).contract.time_zone).end_ms
        later = (invoices.c.contract == note.contract) & (invoices.c.kind == USAGE) & (invoices.c.period > name)
        is_later_month = sa.func.substr(invoices.c.period, 1, len(name)) != name
        query = sa.select(sa.func.min(invoices.c.issued_ms)).where(later & is_later_month)
        next_ms = connection.execute(query).scalar()
        if note.issued_ms >= ended_ms and (next_ms is None or note.issued_ms < next_ms):
            yield note
