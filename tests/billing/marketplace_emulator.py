"""A small, strict stand-in for AWS Marketplace's BatchMeterUsage, written by us from AWS's documents: not AWS.

moto's own accepts thirty records, hours of long ago and changed quantities: a test against it would prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from kernel.clock import Clock

PRODUCT = "prod-1"
SIX_HOURS_MS = 6 * 3_600_000


class Refused(Exception):
    """An error of the API, by its documented code."""


@dataclass
class Emulator:
    """What was metered, by (customer, dimension, time)."""

    clock: Clock
    metered: dict[tuple[str, str, int], int] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)  # records in each
    unprocessed: int = 0  # records that the next calls leave
    unsubscribed: set[str] = field(default_factory=set)
    lost_answers: int = 0  # of calls that were served
    throttled: int = 0  # the next calls get a ThrottlingException and change nothing

    def batch_meter_usage(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.throttled:
            # HTTP 400 (API_marketplace-metering_BatchMeterUsage, Errors).
            self.throttled -= 1
            raise Refused("ThrottlingException")
        records = request["UsageRecords"]
        self.calls.append(len(records))
        if request["ProductCode"] != PRODUCT:
            raise Refused("InvalidProductCodeException")
        # "BatchMeterUsage can process up to 25 UsageRecords at a time" (API_marketplace-metering_BatchMeterUsage).
        if len(records) > 25:
            raise Refused("ValidationException")
        for record in records:
            self._check(record)
        left, self.unprocessed = records[: self.unprocessed], 0
        return {"Results": [self._meter(each) for each in records[len(left) :]], "UnprocessedRecords": left}

    def _check(self, record: dict[str, Any]) -> None:
        # Type: Integer, 0 to 2147483647 (API_marketplace-metering_UsageRecord, Quantity).
        quantity = record["Quantity"]
        if type(quantity) is not int or not 0 <= quantity <= 2_147_483_647:
            raise Refused("ValidationException")
        # "Usage records aren't accepted 6 hours or more after an event" (API_marketplace-metering_BatchMeterUsage).
        if not 0 <= self.clock.now_ms() - record["Timestamp"] * 1000 < SIX_HOURS_MS:
            raise Refused("TimestampOutOfBoundsException")
        # Pattern ^[0-9]+$ (API_marketplace-metering_UsageRecord, CustomerAWSAccountId).
        if not record["CustomerAWSAccountId"].isdecimal():
            raise Refused("InvalidCustomerIdentifierException")

    def _meter(self, record: dict[str, Any]) -> dict[str, Any]:
        key = (record["CustomerAWSAccountId"], record["Dimension"], int(record["Timestamp"]))
        if record["CustomerAWSAccountId"] in self.unsubscribed:
            return {"UsageRecord": record, "Status": "CustomerNotSubscribed"}
        # The same customer, dimension and time with another quantity is not honored, the same quantity is
        # de-duplicated (API_marketplace-metering_UsageRecordResult, Status).
        if self.metered.setdefault(key, record["Quantity"]) != record["Quantity"]:
            return {"UsageRecord": record, "Status": "DuplicateRecord"}
        return {"UsageRecord": record, "Status": "Success", "MeteringRecordId": "-".join(map(str, key))}


@contextmanager
def serving(emulator: Emulator) -> Iterator[str]:
    """Its address, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["X-Amz-Target"] == "AWSMPMeteringService.BatchMeterUsage"
            try:
                status, answer = 200, emulator.batch_meter_usage(json.loads(body))
            except Refused as error:
                status, answer = 400, {"__type": str(error), "message": str(error)}
            if emulator.lost_answers:
                emulator.lost_answers -= 1
                self.close_connection = True
                return
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
