"""Records to AWS Marketplace: in calls of 25, the same again until each has an answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from billing.marketplace.records import LATEST_MS, HourUsage, Plan, batches
from billing.marketplace.store import MarketplaceLog
from billing.marketplace.terms import Subscription
from billing.marketplace.told import Event, Hour
from kernel.clock import Clock, from_ms, to_ms
from kernel.crashpoints import crash_point
from kernel.errors import Refuse, Retry, truncate
from kernel.window import Window

if TYPE_CHECKING:
    from types_boto3_meteringmarketplace import MarketplaceMeteringClient
    from types_boto3_meteringmarketplace.type_defs import UsageRecordOutputTypeDef, UsageRecordTypeDef

ATTEMPTS = 5
_PASSING = {"ThrottlingException", "InternalServiceErrorException", "ServiceUnavailable"}
Answers = Mapping[int, tuple[Event, str]]  # by hour: what AWS said, and its id of the record


def metering_client() -> MarketplaceMeteringClient:
    """boto3's, which repeats what is throttled or met a passing fault, at most `ATTEMPTS` times in all.

    Ten calls a second are allowed (marketplace APIReference, metering-service-quotas); waits grow to 20 s by chance
    (boto3 guide/retries, standard mode). Credentials and region are boto3's own. Raises Refuse without a region.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
    try:
        return boto3.client("meteringmarketplace", config=config)
    except BotoCoreError as error:
        raise Refuse(f"AWS Marketplace: {truncate(str(error))}") from error


@dataclass(frozen=True, slots=True)
class MarketplaceSender:
    """Sends what a log lacks. The client is of `metering_client`; `sleep` takes seconds."""

    client: MarketplaceMeteringClient
    clock: Clock
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def send(self, log: MarketplaceLog, usage: Sequence[HourUsage]) -> Plan:
        """Write down the hours that are new, then send all that has no answer yet.

        The answers are in the log. Raises Retry when some have none, Refuse when AWS refuses a call.
        """
        plan = log.plan(usage)
        now_ms = self.clock.now_ms()
        for batch in batches(log.waiting(Window(now_ms - LATEST_MS, now_ms + 1))):
            self._send(log, batch)
        return plan

    def _send(self, log: MarketplaceLog, batch: Sequence[Hour]) -> None:
        left = list(batch)
        for failures in range(ATTEMPTS):
            if failures:  # UnprocessedRecords are "errors on the service side that should be retried"
                self.sleep(2.0 ** (failures - 1) * random.uniform(0.5, 1))
            begun = log.begin(left)
            if not begun:
                return
            crash_point("marketplace.begun")
            answers = self._call(log, begun)
            crash_point("marketplace.answered")
            log.note(answers)
            left = [hour for hour in begun if not _is_answered(answers, hour)]
            if not left:
                return
        raise Retry(f"AWS Marketplace left {len(left)} records unprocessed; run the same again")

    def _call(self, log: MarketplaceLog, begun: Sequence[Hour]) -> Answers:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        records = [_wire(log.subscription, hour) for hour in begun]
        try:
            answer = self.client.batch_meter_usage(ProductCode=log.subscription.product, UsageRecords=records)
        except ClientError as error:
            metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
            if _is_only(metadata) and metadata.get("HTTPStatusCode", 500) < 500:
                log.note(_returned(begun))
            code = error.response.get("Error", {}).get("Code", "")
            message = f"AWS Marketplace: {truncate(str(error))}"
            raise (Retry if code in _PASSING else Refuse)(message) from error
        except (NoCredentialsError, PartialCredentialsError) as error:  # before anything was sent
            log.note(_returned(begun))
            raise Refuse(f"AWS Marketplace: {truncate(str(error))}") from error
        except BotoCoreError as error:
            raise Retry(f"AWS Marketplace: {truncate(str(error))}") from error
        found: dict[int, tuple[Event, str]] = {}
        if _is_only(answer["ResponseMetadata"]):
            left = {_hour_ms(record) for record in answer["UnprocessedRecords"]}
            found |= _returned([hour for hour in begun if hour.hour_ms in left])
        for result in answer["Results"]:
            found[_hour_ms(result["UsageRecord"])] = Event(result["Status"]), result.get("MeteringRecordId", "")
        return found


def _is_only(metadata: Mapping[str, Any]) -> bool:
    """Whether the answer is to a call that boto3 did not repeat: of an earlier one the answer may be lost."""
    return not metadata.get("RetryAttempts", 0)


def _is_answered(answers: Answers, hour: Hour) -> bool:
    return hour.hour_ms in answers and answers[hour.hour_ms][0] is not Event.RETURNED


def _returned(hours: Sequence[Hour]) -> Answers:
    return {hour.hour_ms: (Event.RETURNED, "") for hour in hours}


def _hour_ms(record: UsageRecordOutputTypeDef) -> int:
    return to_ms(record["Timestamp"])


def _wire(subscription: Subscription, hour: Hour) -> UsageRecordTypeDef:
    return {
        "Timestamp": from_ms(hour.hour_ms),
        "CustomerAWSAccountId": subscription.account,
        "Dimension": subscription.dimension,
        "Quantity": hour.quantity,
    }
