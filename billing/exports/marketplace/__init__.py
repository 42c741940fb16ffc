"""Usage for AWS Marketplace, by BatchMeterUsage. Source: AWS Marketplace Metering Service API reference."""

from billing.exports.marketplace.journal import Journal
from billing.exports.marketplace.records import HourQuantity, Plan, Subscription, UsageRecord, plan_records
from billing.exports.marketplace.sender import MarketplaceSender, Outcome, metering_client

__all__ = [
    "HourQuantity",
    "Journal",
    "MarketplaceSender",
    "Outcome",
    "Plan",
    "Subscription",
    "UsageRecord",
    "metering_client",
    "plan_records",
]
