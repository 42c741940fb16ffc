"""The commands of billing, by group; each group lives in a file of `billing.commands`."""

from __future__ import annotations

import typer

import billing.commands.stripe  # noqa: F401 - adds its command to the group
from billing.commands.contracts import contract_app
from billing.commands.export import export_app
from billing.commands.handover import invoice_app, receivables_app
from billing.commands.licences import licence_app
from billing.commands.life import credit_app
from billing.commands.marketplace import marketplace_app
from billing.commands.prices import price_app

app = typer.Typer(
    no_args_is_help=True, help="Price books, contracts, licences, invoices, credits, receivables, exports."
)
for _name, _group in (
    ("price", price_app),
    ("contract", contract_app),
    ("licence", licence_app),
    ("invoice", invoice_app),
    ("credit", credit_app),
    ("receivables", receivables_app),
    ("export", export_app),
    ("marketplace", marketplace_app),
):
    app.add_typer(_group, name=_name)

__all__ = [
    "app",
    "contract_app",
    "credit_app",
    "export_app",
    "invoice_app",
    "licence_app",
    "marketplace_app",
    "price_app",
    "receivables_app",
]
