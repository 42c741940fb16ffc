"""`byoc marketplace`: what AWS Marketplace is told and what it took, for charges that it bills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
import typer

from billing.agreed import AgreedContract
from billing.commands.context import ACTOR, OneContract, Organization, book_of, deployment_of, organization_of
from billing.document import utc_text
from billing.errors import AmbiguousContract
from billing.marketplace.reading import subscriptions, usage_to_tell
from billing.marketplace.records import is_late
from billing.marketplace.sender import MarketplaceSender, metering_client
from billing.marketplace.store import MarketplaceLog, load_rows
from billing.marketplace.terms import Subscription
from billing.marketplace.told import Hour, Status, hours_of
from kernel.clock import to_ms
from kernel.errors import ByocError, InvalidInput, NotFound, truncate
from kernel.ids import OrganizationId
from kernel.window import DAY_MS, HOUR_MS, Window
from kernel.window import month as month_window

if TYPE_CHECKING:
    from metering.usage.api import UsageStore

_REMINDED_MS = 62 * DAY_MS

marketplace_app = typer.Typer(no_args_is_help=True, help="Charges that AWS Marketplace bills.")


@marketplace_app.command("send")
def send_usage(
    ctx: typer.Context,
    organization: Annotated[str | None, typer.Argument(help="Only this organization's.")] = None,
) -> None:
    """Tell AWS Marketplace the sealed hours of the last six, each once. Run it every hour.

    Credentials and region are boto3's own. What AWS does not take is billed by the month's invoice. The exit status
    is 1 when an organization was refused, and while hours wait for `resolve`.
    """
    from metering.usage.api import UsageStore  # its lake libraries take two seconds to load

    deployment = deployment_of(ctx)
    sender = MarketplaceSender(metering_client(), deployment.clock)
    usage, failed = UsageStore(deployment.database()), 0
    for owner, contracts in _selling(ctx, organization):
        try:
            for line in _send(ctx, sender, usage, (owner, contracts)):
                typer.echo(line)
        except ByocError as error:  # holds up no other
            typer.echo(f"{owner}: {error}", err=True)
            failed += 1
        if hours := _unresolved(ctx, contracts):
            told = f"of {hours} hours nobody knows what AWS Marketplace took, and sending again will not tell"
            typer.echo(f"{owner}: {told}; see `byoc marketplace list {owner} --unknown`", err=True)
            failed += 1
    if failed:
        raise typer.Exit(1)


@marketplace_app.command("list")
def list_hours(
    ctx: typer.Context,
    organization: Organization,
    month: Annotated[str | None, typer.Option(help="YYYY-MM, UTC; none: everything.")] = None,
    unknown: Annotated[bool, typer.Option(help="Only hours of which it is not known what AWS took.")] = False,
) -> None:
    """What AWS Marketplace was told of each hour, and what it took."""
    window = month_window(month) if month else Window(0, 2**62)
    for _, contracts in _selling(ctx, organization):
        for subscription in subscriptions(contracts):
            for hour in _hours(ctx, subscription, window):
                if not unknown or hour.is_unknown:
                    typer.echo(f"{subscription}  {_shown(hour)}")


@marketplace_app.command("resolve")
def resolve_hour(
    ctx: typer.Context,
    organization: Organization,
    charge: Annotated[str, typer.Argument(help="Id of the charge.")],
    hour: Annotated[str, typer.Argument(help="Start of the hour, UTC: 2026-11-03T08:00Z.")],
    taken: Annotated[int, typer.Option(help="Units that AWS has billed of the hour, by AWS's own report.")],
    reason: Annotated[str, typer.Option(help="Where that stands: the report, or AWS's case of a refund.")],
    contract: OneContract = None,
) -> None:
    """Say what AWS took of an hour whose answer was lost, that it had from elsewhere, or that it refunded.

    The next invoice, or a credit note, settles the difference where the month was invoiced already.
    """
    owner, start_ms = organization_of(organization), _hour_of(hour)
    contracts = [known for each, known in _selling(ctx, organization) if each == owner]
    found = _subscription(contracts[0] if contracts else (), charge, contract)
    deployment = deployment_of(ctx)
    log = MarketplaceLog(deployment.database(), deployment.clock, owner, found, ACTOR)
    details = {"hour": utc_text(start_ms), "taken": str(taken), "reason": truncate(reason)}

    def resolve(connection: sa.Connection) -> None:
        log.resolve(connection, start_ms, taken, truncate(reason))
        deployment.audit().append(connection, ACTOR, "marketplace.resolve", f"{owner}/{found}", details)

    deployment.database().transact(resolve)
    [resolved] = _hours(ctx, found, Window(start_ms, start_ms + HOUR_MS))
    typer.echo(f"{found}  {_shown(resolved)}")


def _send(
    ctx: typer.Context,
    sender: MarketplaceSender,
    usage: UsageStore,
    of: tuple[OrganizationId, Sequence[AgreedContract]],
) -> Iterator[str]:
    deployment, (owner, contracts) = deployment_of(ctx), of
    for subscription, hours in usage_to_tell(contracts, usage, deployment.clock.now_ms()).items():
        plan = sender.send(MarketplaceLog(deployment.database(), deployment.clock, owner, subscription), hours)
        now = {one.hour_ms: one for one in _hours(ctx, subscription, _around(plan.hours))} if plan.hours else {}
        counts = Counter(now[hour.hour_ms].status.value for hour in plan.hours)
        answers = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "nothing new"
        yield f"{owner}  {subscription}  {answers}; left to the invoice: {len(plan.late)} hours"


def _unresolved(ctx: typer.Context, contracts: Sequence[AgreedContract]) -> int:
    """Hours of this month and the last for which a person has to ask AWS: sending again will not tell."""
    now_ms = deployment_of(ctx).clock.now_ms()
    window = Window(now_ms - _REMINDED_MS, now_ms)
    hours = (hour for each in subscriptions(contracts) for hour in _hours(ctx, each, window))
    return sum(
        hour.is_unknown and (hour.status is Status.OTHER_QUANTITY or is_late(hour.hour_ms, now_ms))
        for hour in hours
    )


def _around(hours: Sequence[Hour]) -> Window:
    return Window(hours[0].hour_ms, hours[-1].hour_ms + HOUR_MS)


def _hours(ctx: typer.Context, subscription: Subscription, window: Window) -> list[Hour]:
    rows = deployment_of(ctx).database().read(lambda connection: load_rows(connection, subscription, window))
    return [hour for _, hour in sorted(hours_of(rows).items())]


def _shown(hour: Hour) -> str:
    until = ", until it is resolved" if hour.is_unknown else ""
    return f"{utc_text(hour.hour_ms)}  told {hour.quantity}  {hour.status}  taken {hour.taken}{until}"


def _selling(ctx: typer.Context, organization: str | None) -> list[tuple[OrganizationId, list[AgreedContract]]]:
    """Contracts with charges that AWS Marketplace bills, by organization."""
    owner = organization_of(organization) if organization else None
    found: dict[OrganizationId, list[AgreedContract]] = {}
    for agreed in book_of(ctx).contracts(owner):
        if subscriptions([agreed]):
            found.setdefault(OrganizationId(agreed.contract.organization), []).append(agreed)
    if owner is not None and not found:
        raise NotFound(f"no contract of {owner} has a charge that AWS Marketplace bills")
    return sorted(found.items())


def _subscription(contracts: Iterable[AgreedContract], charge: str, contract: str | None) -> Subscription:
    found = {
        subscription
        for subscription, sellers in subscriptions(contracts).items()
        if any(name == charge and contract in (None, of) for of, name in sellers)
    }
    if not found:
        raise NotFound(f"no charge {charge} of it is billed by AWS Marketplace")
    if len(found) > 1:
        raise AmbiguousContract(f"charge {charge} is of several contracts; name one with --contract")
    return found.pop()


def _hour_of(text: str) -> int:
    """Raises InvalidInput."""
    try:
        moment = datetime.fromisoformat(text)
        start_ms = to_ms(moment.astimezone(UTC)) if moment.tzinfo else 1
    except (ValueError, OverflowError):
        start_ms = 1
    if start_ms % HOUR_MS:
        allowed = "the start of an hour with its zone, such as 2026-11-03T08:00Z"
        raise InvalidInput.single("command line", "hour", text, allowed)
    return start_ms
