"""A process that dies by SIGKILL after it has numbered an invoice and before it commits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from billing.run import InvoiceRun
from kernel.audit import AuditEvent, AuditLog
from kernel.clock import VirtualClock
from kernel.database import Database
from kernel.window import month
from tests.billing.deals import ACME, NOVEMBER_3, RecordedUsage, ten_vcpu_above_for_an_hour


class DeadlyAudit(AuditLog):
    """The audit rows are the last statement before the commit."""

    def append_all(
        self,
        connection: sa.Connection,
        actor: str,
        action: str,
        subjects: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> list[AuditEvent]:
        super().append_all(connection, actor, action, subjects)
        (subject, _) = subjects[0]
        sys.stdout.write(f"numbered {subject}\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


def main(url: str) -> None:
    database, clock = Database(url), VirtualClock(NOVEMBER_3)
    usage = RecordedUsage(ten_vcpu_above_for_an_hour(month("2026-10")))
    run = InvoiceRun(database, usage, clock, DeadlyAudit(database, clock))
    run.finalize(run.draft(ACME, "2026-10"))


if __name__ == "__main__":
    main(sys.argv[1])
