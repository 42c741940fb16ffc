"""The invoice run of a month for many organizations: drafted side by side, numbered in batches. Resumable.

A draft is a pure function, so worker processes make them; the numbers are taken here, one short transaction for a
batch. What was issued before a crash is found again and not issued twice, so a run that died is simply run again.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from billing.credited import credited_at_close
from billing.finalize import Finalizer, Outcome
from billing.invoices import Invoice
from billing.prepared import Prepared, prepare
from billing.proof.statement import InvoiceSigner
from billing.run import InvoiceRun, Known
from kernel.audit import AuditLog
from kernel.clock import Clock, VirtualClock, from_ms
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.errors import ByocError
from kernel.ids import OrganizationId
from metering.usage.model import UsageReader

BATCH = 100  # organizations: what one worker drafts, and one transaction numbers
READ_AT_ONCE = 10  # organizations whose documents, years of them, are held together while they are drafted
OpenUsage = Callable[[Database], UsageReader]  # importable by name: workers are new processes


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an organization has no invoice for the month."""

    organization: OrganizationId
    error: ByocError


Drafted = tuple[list[Prepared], list[Refused]]


@dataclass(frozen=True, slots=True)
class MonthDone:
    """What a batch gave: documents that stand now, whoever issued them, and what was refused."""

    organizations: int
    documents: tuple[Invoice, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class MonthRun:
    """`processes` make drafts (1: here). Methods block."""

    database: Database
    open_usage: OpenUsage
    clock: Clock
    audit: AuditLog
    actor: str = "billing"
    processes: int = os.cpu_count() or 1
    signer: InvoiceSigner | None = None  # signs what is issued

    def close(self, organizations: Sequence[OrganizationId], month: str) -> Iterator[MonthDone]:
        """Finalize the month of each organization, with the credit notes and commitments due; a batch at a time.

        An organization that can't be invoiced is in `refused` and holds up no other.
        """
        for batch, (drafts, refused) in self.drafts(organizations, month):
            crash_point("billing.drafted")
            yield self._with_notes(self.finalize(batch, drafts, refused), batch, month)
            crash_point("billing.batch")

    def drafts(
        self, organizations: Sequence[OrganizationId], month: str
    ) -> Iterator[tuple[Sequence[OrganizationId], Drafted]]:
        """Everything due for each organization, a batch at a time, and whose month can't be drafted."""
        batches = [organizations[start : start + BATCH] for start in range(0, len(organizations), BATCH)]
        ahead = 2 * self.processes
        with self._drafting(min(self.processes, len(batches))) as draft:
            waiting = deque(draft(batch, month) for batch in batches[:ahead])
            for number, batch in enumerate(batches):
                drafted = waiting.popleft().result()
                if number + ahead < len(batches):
                    waiting.append(draft(batches[number + ahead], month))
                yield batch, drafted

    def finalize(
        self, batch: Sequence[OrganizationId], drafts: Sequence[Prepared], refused: Sequence[Refused] = ()
    ) -> MonthDone:
        """One transaction for a batch."""
        finalizer = Finalizer(self.clock, self.audit, self.actor, self.signer)
        outcomes = self.database.transact(lambda connection: finalizer.finalize_all(connection, drafts))
        return _done(batch, drafts, outcomes, refused)

    def _with_notes(self, done: MonthDone, batch: Sequence[OrganizationId], month: str) -> MonthDone:
        """With the credit notes that a run before this one issued: nothing is due of them any more."""
        found = self.database.read(lambda connection: credited_at_close(connection, batch, month))
        known = {one.number for one in done.documents}
        missing = [note for notes in found.values() for note in notes if note.number not in known]
        return replace(done, documents=(*done.documents, *missing))

    @contextmanager
    def _drafting(self, processes: int) -> Iterator[Callable[[Sequence[OrganizationId], str], Future[Drafted]]]:
        url, now_ms = self.database.url.render_as_string(hide_password=False), self.clock.now_ms()
        if processes <= 1:  # also for a single batch: a process takes longer to start than that
            yield lambda batch, month: _at_once(_draft(self.database, self.open_usage, self.clock, batch, month))
            return
        context = multiprocessing.get_context("spawn")
        pool: Executor = ProcessPoolExecutor(processes, context, _set_up_process)
        with pool:
            yield lambda batch, month: pool.submit(_draft_elsewhere, url, self.open_usage, now_ms, batch, month)


def _at_once(drafted: Drafted) -> Future[Drafted]:
    future: Future[Drafted] = Future()
    future.set_result(drafted)
    return future


def _set_up_process() -> None:
    """Leaves what was imported out of every later collection: drafting makes objects by the hundred thousand."""
    gc.collect()
    gc.freeze()


def _draft_elsewhere(
    url: str, open_usage: OpenUsage, now_ms: int, batch: Sequence[OrganizationId], month: str
) -> Drafted:
    database = Database(url)
    try:
        return _draft(database, open_usage, VirtualClock(from_ms(now_ms)), batch, month)
    finally:
        database.close()


def _draft(
    database: Database, open_usage: OpenUsage, clock: Clock, batch: Sequence[OrganizationId], month: str
) -> Drafted:
    run = InvoiceRun(database, open_usage(database), clock, AuditLog(database, clock))
    drafts: list[Prepared] = []
    refused: list[Refused] = []
    for start in range(0, len(batch), READ_AT_ONCE):
        some = batch[start : start + READ_AT_ONCE]
        together = _known(run, some)
        for organization in some:
            try:
                known = together or run.known([organization])
                drafts += [prepare(draft) for draft in run.due(organization, month, known)]
            except ByocError as error:
                refused.append(Refused(organization, error))
    return drafts, refused


def _known(run: InvoiceRun, batch: Sequence[OrganizationId]) -> Known | None:
    """What is stored of a whole batch; None if any of it can't be read, as that must refuse its own alone."""
    try:
        return run.known(batch)
    except ByocError:
        return None


def _done(
    batch: Sequence[OrganizationId],
    drafts: Sequence[Prepared],
    outcomes: Sequence[Outcome],
    refused: Sequence[Refused],
) -> MonthDone:
    pairs = list(zip(drafts, outcomes, strict=True))
    failed = [Refused(draft.organization, one) for draft, one in pairs if isinstance(one, ByocError)]
    documents = tuple(one for one in outcomes if isinstance(one, Invoice))
    return MonthDone(len(batch), documents, (*refused, *failed))
