"""Records to AWS Marketplace: in calls of 25, the same again until each has an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from billing.exports.marketplace.journal import Journal
from billing.exports.marketplace.records import (
    HourQuantity,
    Plan,
    Subscription,
    UsageRecord,
    batches,
    is_late,
    plan_records,
)
from kernel.clock import Clock, from_ms
from kernel.errors import Refuse, Retry, truncate

if TYPE_CHECKING:
    from types_boto3_meteringmarketplace import MarketplaceMeteringClient
    from types_boto3_meteringmarketplace.type_defs import UsageRecordTypeDef

ATTEMPTS = 3
_PASSING = {"ThrottlingException", "InternalServiceErrorException", "ServiceUnavailable"}


class Outcome(StrEnum):
    """What became of a record. The first three are AWS's words (UsageRecordResult, Status)."""

    SUCCESS = "Success"
    NOT_SUBSCRIBED = "CustomerNotSubscribed"
    DUPLICATE = "DuplicateRecord"  # the hour was sent before with another quantity: ours was not taken
    LATE = "late"  # its six hours ended before it was known to be taken; look into the vendor's own report


@dataclass(frozen=True, slots=True)
class MarketplaceSender:
    """Sends what a journal lacks. The client is boto3's `meteringmarketplace`."""

    client: MarketplaceMeteringClient
    clock: Clock

    def send(self, journal: Journal, hours: Sequence[HourQuantity]) -> Plan:
        """Plan the hours that are new, write them down, send all that has no answer yet.

        The answers are in the journal. Raises Retry when some have none, Refuse when AWS refuses a call.
        """
        plan = plan_records(hours, list(journal.planned.values()), self.clock.now_ms())
        journal.plan(plan.records)
        waiting = journal.unanswered()
        gone = [record for record in waiting if is_late(record.hour_ms, self.clock.now_ms())]
        journal.note({record.hour_ms: Outcome.LATE for record in gone})
        for batch in batches([record for record in waiting if record not in gone]):
            self._send(journal, batch)
        return plan

    def _send(self, journal: Journal, batch: Sequence[UsageRecord]) -> None:
        left = {record.hour_ms: record for record in batch}
        for _ in range(ATTEMPTS):
            answers = self._call(journal.subscription, list(left.values()))
            journal.note(answers)
            left = {hour: record for hour, record in left.items() if hour not in answers}
            if not left:
                return
        raise Retry(f"AWS Marketplace left {len(left)} records unprocessed; run the same again")

    def _call(self, subscription: Subscription, records: list[UsageRecord]) -> dict[int, str]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.client.batch_meter_usage(
                ProductCode=subscription.product, UsageRecords=[_wire(subscription, each) for each in records]
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            message = f"AWS Marketplace: {truncate(str(error))}"
            raise (Retry if code in _PASSING else Refuse)(message) from error
        except BotoCoreError as error:
            raise Retry(f"AWS Marketplace: {truncate(str(error))}") from error
        return {
            int(result["UsageRecord"]["Timestamp"].timestamp() * 1000): Outcome(result["Status"])
            for result in answer["Results"]
        }


def _wire(subscription: Subscription, record: UsageRecord) -> UsageRecordTypeDef:
    return {
        "Timestamp": from_ms(record.hour_ms),
        "CustomerAWSAccountId": subscription.account,
        "Dimension": subscription.dimension,
        "Quantity": record.quantity,
    }
