"""What happens to issued documents: `byoc invoice approve|threshold|send|pay|refund|offset|void|credit|standing`.

And `byoc credit`, `byoc receivables`.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from billing.ageing import AGE_NAMES, ageing
from billing.balances import Balances
from billing.commands.context import (
    Month,
    Number,
    OneContract,
    Organization,
    book_of,
    deployment_of,
    organization_of,
    prepaid_of,
    receivables_of,
    run_of,
)
from billing.commands.invoice import invoice_app
from billing.fields import midnight_ms
from billing.prepaid import GrantTerms, load_grants
from billing.standing import Standing
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.money import Money, currency, parse_decimal

credit_app = typer.Typer(no_args_is_help=True, help="Prepaid credits.")
receivables_app = typer.Typer(no_args_is_help=True, help="What customers owe.")
Amount = Annotated[str, typer.Argument(help='Decimal in major units, such as "100.00".')]
Reason = Annotated[str, typer.Option(help="As printed and kept in the audit log.")]


@invoice_app.command("approve")
def approve_draft(
    ctx: typer.Context, organization: Organization, month: Month, contract: OneContract = None
) -> None:
    """Approve the draft of a month as it is now. If anything changes it, the approval does not count."""
    draft = run_of(ctx).draft(organization_of(organization), month, contract)
    typer.echo(f"approved {receivables_of(ctx).approve(draft)}  {draft.gross}")


@invoice_app.command("threshold")
def invoice_threshold(
    ctx: typer.Context, organization: Organization, month: Month, contract: OneContract = None
) -> None:
    """Invoice what a running month has cost, if that reaches the contract's threshold. Repeatable."""
    issued = run_of(ctx).threshold(organization_of(organization), month, contract)
    typer.echo(f"{issued.number}  {issued.gross} {issued.currency}" if issued else "below the threshold")


@invoice_app.command("send")
def send_document(
    ctx: typer.Context, number: Number, to: Annotated[str, typer.Option(help="To whom it was handed over.")]
) -> None:
    """Note that a document was handed over."""
    typer.echo(f"{number}  {receivables_of(ctx).send(number, to)}")


@invoice_app.command("pay")
def pay_invoice(
    ctx: typer.Context,
    number: Number,
    amount: Amount,
    reference: Annotated[str, typer.Option(help="Of the payment; the same again is booked once.")],
) -> None:
    """Book a payment, whole or in part."""
    book = receivables_of(ctx)
    paid = _money(amount, book.standing(number).open.currency.code)
    _echo(book.pay(number, paid, reference))


@invoice_app.command("refund")
def refund_invoice(
    ctx: typer.Context,
    number: Number,
    amount: Amount,
    reference: Annotated[str, typer.Option(help="Of the pay-out; the same again is booked once.")],
) -> None:
    """Book that money was paid back: at most what an invoice has to the customer's credit."""
    book = receivables_of(ctx)
    _echo(Balances(book).refund(number, _money(amount, book.standing(number).open.currency.code), reference))


@invoice_app.command("offset")
def offset_invoice(
    ctx: typer.Context,
    number: Number,
    against: Annotated[str, typer.Argument(help="Number of the open invoice that it pays.")],
    amount: Amount,
    reference: Annotated[str, typer.Option(help="The same again is booked once.")],
) -> None:
    """Pay another invoice of the customer with what this one has to its credit."""
    book = receivables_of(ctx)
    amount_of = _money(amount, book.standing(number).open.currency.code)
    for found in Balances(book).offset(number, against, amount_of, reference):
        _echo(found)


@invoice_app.command("void")
def void_document(ctx: typer.Context, number: Number, reason: Reason) -> None:
    """Make a document void. It keeps its number; its period can be issued again."""
    _echo(receivables_of(ctx).void(number, reason))


@invoice_app.command("credit")
def credit_invoice(
    ctx: typer.Context,
    number: Number,
    reason: Reason,
    line: Annotated[list[str], typer.Option(help='LINE=AMOUNT such as "3=40.00"; lines count from 1. Repeatable.')],
) -> None:
    """Issue a credit note for lines of an invoice."""
    book = receivables_of(ctx)
    unit = book.standing(number).open.currency.code
    amounts: dict[int, Money] = {}
    for place, amount in (_line_amount(text, unit) for text in line):
        if place in amounts:
            raise InvalidInput.single("command line", "--line", f"{place + 1} again", "each line once")
        amounts[place] = amount
    note = book.credit(number, amounts, reason)
    typer.echo(f"{note.number}  {note.gross} {note.currency} for {number}")


@invoice_app.command("standing")
def show_standing(ctx: typer.Context, number: Number) -> None:
    """A document's state, what is open, and what happened to it."""
    found = receivables_of(ctx).standing(number)
    _echo(found)
    for event in found.events:
        amount = f"  {event.minor_units} minor units" if event.minor_units else ""
        typer.echo(f"  {event.event}  {event.reference}{amount}  by {event.actor}")


@credit_app.command("add")
def add_credit(
    ctx: typer.Context,
    grant: Annotated[str, typer.Argument(help="Id of the credit; the same again is booked once.")],
    organization: Organization,
    amount: Amount,
    unit: Annotated[str, typer.Option("--currency", help="ISO 4217 code.")],
    reference: Annotated[str, typer.Option(help="Of the payment.")],
    expires: Annotated[
        str | None, typer.Option(help="First day on which it is not usable, YYYY-MM-DD, UTC.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Lower is drawn first.")] = 0,
) -> None:
    """Book prepaid credits that were bought."""
    owner = organization_of(organization)
    terms = GrantTerms(reference, priority, _expiry_ms(ctx, owner, expires) if expires else None)
    prepaid_of(ctx).add(grant, owner, _money(amount, unit), terms)
    typer.echo(f"{grant}  {amount} {unit}")


def _expiry_ms(ctx: typer.Context, owner: OrganizationId, expires: str) -> int:
    """Raises InvalidInput for a day on which nothing could have been drawn."""
    last, today = parse_day(expires), deployment_of(ctx).clock.now().date()
    if last <= today:
        raise InvalidInput.single("command line", "--expires", expires, f"a day after today, {today}")
    terms = [agreed.contract.term for agreed in book_of(ctx).contracts(owner)]
    first = min((term.start for term in terms if term.end > today), default=today)
    if last <= first:
        allowed = f"a day after {first}, on which the contract of {owner} begins"
        raise InvalidInput.single("command line", "--expires", expires, allowed)
    return midnight_ms(last, "Etc/UTC")


@credit_app.command("list")
def list_credits(
    ctx: typer.Context, organization: Organization, unit: Annotated[str, typer.Option("--currency")] = "USD"
) -> None:
    """What is left of an organization's prepaid credits."""
    owner, code = organization_of(organization), currency(unit)
    grants = deployment_of(ctx).database().read(lambda connection: load_grants(connection, owner, code))
    for grant in grants:
        typer.echo(f"{grant.grant}  {grant.balance}")
    if not grants:
        typer.echo(f"{owner} has no prepaid credits in {code.code}", err=True)


@receivables_app.command("ageing")
def show_ageing(
    ctx: typer.Context,
    organization: Organization,
    on: Annotated[str | None, typer.Option(help="YYYY-MM-DD; default: today, UTC.")] = None,
) -> None:
    """What an organization owes, by days overdue."""
    day = parse_day(on) if on else deployment_of(ctx).clock.now().date()
    owner = organization_of(organization)
    owed = ageing(receivables_of(ctx).statement(owner), day)
    if not owed:
        typer.echo(f"{owner} owes nothing", err=True)
    for found in owed:
        for name, amount in zip(AGE_NAMES, found.buckets, strict=True):
            typer.echo(f"{name:<10}  {amount}")
        typer.echo(f"{'total':<10}  {found.total}")


def _echo(found: Standing) -> None:
    typer.echo(f"{found.invoice.number}  {found.state}  open {found.open}")


def _money(text: str, code: str) -> Money:
    return Money(parse_decimal(text, "command line"), currency(code))


def _line_amount(text: str, code: str) -> tuple[int, Money]:
    place, equals, amount = text.partition("=")
    if not equals or not (place.isascii() and place.isdecimal()) or int(place) < 1:
        raise InvalidInput.single("command line", "--line", text, "LINE=AMOUNT such as 3=40.00")
    return int(place) - 1, _money(amount, code)


def parse_day(text: str) -> date:
    """A day named on the command line. Raises InvalidInput."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput.single("command line", "day", text, "YYYY-MM-DD") from error
