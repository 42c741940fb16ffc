"""Records to AWS Marketplace: in calls of 25, the same again until each has an answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

ATTEMPTS = 5
_PASSING = {"ThrottlingException", "InternalServiceErrorException", "ServiceUnavailable"}


def metering_client() -> MarketplaceMeteringClient:
    """boto3's, which repeats what is throttled or met a passing fault, at most `ATTEMPTS` times in all.

    Ten calls a second are allowed (marketplace APIReference, metering-service-quotas); waits grow to 20 s by chance
    (boto3 guide/retries, standard mode). Credentials and region are boto3's own.
    """
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
    return boto3.client("meteringmarketplace", config=config)


class Outcome(StrEnum):
    """What became of a record. The first three are AWS's words (UsageRecordResult, Status)."""

    SUCCESS = "Success"
    NOT_SUBSCRIBED = "CustomerNotSubscribed"
    DUPLICATE = "DuplicateRecord"  # the hour was sent before with another quantity: ours was not taken
    LATE = "late"  # its six hours ended before it was known to be taken; look into the vendor's own report


@dataclass(frozen=True, slots=True)
class MarketplaceSender:
    """Sends what a journal lacks. The client is of `metering_client`; `sleep` takes seconds."""

    client: MarketplaceMeteringClient
    clock: Clock
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

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
        for failures in range(ATTEMPTS):
            if failures:  # UnprocessedRecords are "errors on the service side that should be retried"
                self.sleep(2.0 ** (failures - 1) * random.uniform(0.5, 1))
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
