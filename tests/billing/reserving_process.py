"""A process that makes four reservations at once and prints how each ended."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from billing.capacity import LicenceCapacity
from billing.errors import CapacityRefused
from kernel.clock import VirtualClock
from kernel.database import Database
from kernel.ids import JobId, OrganizationId


def reserve(database: Database, subject: str) -> str:
    """`admitted` or `refused` for 5 vCPU."""
    capacity = LicenceCapacity(VirtualClock(datetime(2026, 11, 3, tzinfo=UTC)))
    try:
        database.transact(
            lambda connection: capacity.reserve(
                connection, OrganizationId("acme"), subject, 5_000, JobId("job-" + subject)
            )
        )
    except CapacityRefused:
        return "refused"
    return "admitted"


def main(url: str, name: str) -> None:
    database = Database(url)
    with ThreadPoolExecutor(4) as pool:
        for outcome in pool.map(partial(reserve, database), [f"{name}-{index}" for index in range(4)]):
            sys.stdout.write(outcome + "\n")
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
