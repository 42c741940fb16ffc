"""`byoc export stripe`: an issued invoice to Stripe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from billing.agreed import agreed_on
from billing.commands.context import Number, receivables_of
from billing.commands.export import export_app
from billing.exports.stripe import StripeClient, hand_over
from billing.life import State
from kernel.errors import ByocError, Conflict, truncate


@export_app.command("stripe")
def export_stripe(
    ctx: typer.Context,
    number: Number,
    customer: Annotated[str, typer.Option(help="Id of the customer at Stripe, cus_...")],
    key_file: Annotated[Path, typer.Option(help="File with a secret key of the account, nothing else.")],
    address: Annotated[str, typer.Option(help="https, or http on loopback.")] = "https://api.stripe.com",
) -> None:
    """Make an issued invoice one of Stripe's and finalize it there. Repeatable: it is made once."""
    found = receivables_of(ctx).standing(number)
    if found.state not in {State.FINAL, State.SENT}:
        raise Conflict(f"{number} is {found.state}: there is nothing to collect")
    try:
        secret = key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ByocError(f"{truncate(str(key_file))} can't be read") from error
    document = found.invoice.document
    days = agreed_on(document).contract.payment_days
    name = hand_over(StripeClient(secret, address), document, found.invoice.sha256, customer, days)
    typer.echo(f"{number}  {name}")
