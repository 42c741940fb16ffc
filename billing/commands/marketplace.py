"""`byoc export marketplace`: the last hours of a meter to AWS Marketplace."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from billing.commands.context import Organization, deployment_of, organization_of
from billing.commands.export import export_app
from billing.exports.marketplace import HourQuantity, Journal, MarketplaceSender, Subscription, metering_client
from billing.exports.marketplace.records import LATEST_MS
from kernel.window import HOUR_MS, Window, hour_of


@export_app.command("marketplace")
def export_marketplace(
    ctx: typer.Context,
    organization: Organization,
    meter: Annotated[str, typer.Argument(help="Id of the meter.")],
    product: Annotated[str, typer.Option(help="Product code at AWS Marketplace.")],
    account: Annotated[str, typer.Option(help="AWS account id of the buyer.")],
    dimension: Annotated[str, typer.Option(help="Dimension of the product.")],
    journal: Annotated[Path, typer.Option(help="File of what was sent; keep it. One for each subscription.")],
) -> None:
    """Send the sealed hours of the last six to AWS Marketplace, each once. Run it every hour.

    Credentials and region are boto3's own. Hours that are too late, and later corrections, go to the invoice.
    """
    from metering.usage.api import UsageStore

    deployment = deployment_of(ctx)
    usage, owner = UsageStore(deployment.database()), organization_of(organization)
    now = hour_of(deployment.clock.now_ms()).start_ms
    found = []
    for start in range(now - LATEST_MS, now, HOUR_MS):
        hour = usage.meter(owner, meter, Window(start, start + HOUR_MS), None)
        if hour.sealed:
            found.append(HourQuantity(start, sum((part.quantity for part in hour.parts), Fraction(0))))
    kept = Journal(journal, Subscription(product, account, dimension))
    sender = MarketplaceSender(metering_client(), deployment.clock)
    plan = sender.send(kept, found)
    counts = Counter(kept.outcomes[each.hour_ms] for each in plan.records)
    answers = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nothing new"
    typer.echo(f"{answers}; too late for the marketplace: {len(plan.late)} hours")
