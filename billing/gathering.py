"""All that a draft is made of: usage, what was billed before, and what later usage changed of finished months."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from billing.agreed import AgreedContract, agreed_on
from billing.basis import basis_of, capacity_peak, capacity_window
from billing.corrections import Correction, correct, limited
from billing.document import utc_ms
from billing.draft import (
    CREDIT_NOTE,
    USAGE,
    Credit,
    Draft,
    MeasuredPeriod,
    credit_draft,
    needed_meters,
    rated_lines,
)
from billing.fields import midnight_ms
from billing.invoices import Invoice, Issued, find_issues, load_issued
from billing.issuing import creditable
from billing.marketplace.store import count_rows, load_told
from billing.marketplace.terms import subscription_of
from billing.marketplace.told import Told
from billing.rating.line import CapacityPeak
from billing.rating.true_up import due_periods
from billing.spent import spent_before
from billing.thresholds import THRESHOLD
from kernel.clock import Clock
from kernel.database import Database
from kernel.ids import OrganizationId
from kernel.money import Money, currency
from kernel.window import DAY_MS, Window
from metering.usage.model import MeterRequest, UsageReader

MARGIN_MS = DAY_MS  # a revision may be sealed between the reading of a draft and its number
CORRECTED_MS = 400 * DAY_MS  # thirteen months: later usage of an invoice older than that is not billed any more


@dataclass(frozen=True, slots=True)
class Gathering:
    """Reads; nothing here is stored. Methods block."""

    database: Database
    usage: UsageReader
    clock: Clock

    def of(
        self, agreed: AgreedContract, month: str, period: Window, issued: Issued | None = None
    ) -> MeasuredPeriod:
        """What the monthly invoice of a period is made of. `issued`: its documents, if they were read already."""
        issued = issued or self._issued(agreed.contract.contract)
        documents = [(one, one.document) for one in issued.standing]
        of_month = [(one, each) for one, each in documents if each["period"]["name"] == month]
        before = [one for one, each in documents if each["period"]["name"] != month]
        corrections = (one for one in self._corrections(before, issued.standing) if _is_positive(one.net))
        measured = self._measured(agreed, period, issued.standing)
        return MeasuredPeriod(
            measured.usage,
            measured.meters,
            measured.spent_before,
            thresholds=tuple(each for one, each in of_month if one.kind == THRESHOLD),
            threshold_issue=issued.issues(THRESHOLD, month) + 1,
            corrections=tuple(corrections),
            capacity_peaks=measured.capacity_peaks,
            marketplace=measured.marketplace,
        )

    def credits_due(self, contract: str, issued: Issued | None = None) -> list[Draft]:
        """The credit notes for months that later usage made cheaper. `issued` as in `of`."""
        issued = issued or self._issued(contract)
        return [
            draft
            for correction in self._corrections(issued.standing, issued.standing)
            if not _is_positive(correction.net) and (draft := self._credit(contract, correction, issued.standing))
        ]

    def waiting(self, contract: str) -> list[Correction]:
        """What later usage added to finished months and no document bills yet."""
        stands = self._issued(contract).standing
        return [one for one in self._corrections(stands, stands) if _is_positive(one.net)]

    def _issued(self, contract: str) -> Issued:
        return self.database.read(lambda connection: load_issued(connection, [contract]))[contract]

    def _corrections(self, originals: Iterable[Invoice], issued: Sequence[Invoice]) -> Iterable[Correction]:
        """What later usage changed of each monthly invoice among `originals`, given all standing documents."""
        oldest_ms = self.clock.now_ms() - CORRECTED_MS
        for original in originals:
            if original.kind != USAGE or original.issued_ms < oldest_ms:
                continue
            document = original.document
            period = _window(document)
            reach = (
                _reach(agreed_on(document), period) if "capacity_true_up" in _contract_text(document) else period
            )
            since_ms = original.issued_ms - MARGIN_MS
            if not (self.usage.revised_since(original.organization, reach, since_ms) or self._told_anew(document)):
                continue
            found = self._correction(original, document, period, issued)
            if found is not None:
                yield found

    def _correction(
        self, original: Invoice, document: Mapping[str, Any], period: Window, issued: Sequence[Invoice]
    ) -> Correction | None:
        agreed = agreed_on(document)
        earlier = [one for one in issued if one.issued_ms < original.issued_ms]
        measured = self._measured(agreed, period, earlier)
        if not measured.usage.sealed:
            return None  # a revision that is still awaited is not billed in two steps
        counted = (
            one.document
            for one in issued
            if one.number == original.number
            or any(line.get("corrects") == original.number for line in one.document["lines"])
        )
        rated = rated_lines(agreed, period, measured)
        found = correct(document, counted, rated, measured.usage.revision_digest)
        basis = basis_of(agreed.contract, measured)
        return replace(found, basis=basis) if found else None

    def _credit(self, contract: str, correction: Correction, issued: Sequence[Invoice]) -> Draft | None:
        [original] = [one for one in issued if one.number == correction.number]
        document = original.document
        agreed = agreed_on(document)
        unit = currency(original.currency)

        def read(connection: Any) -> tuple[Money, int]:
            issues = find_issues(connection, contract, CREDIT_NOTE, correction.number)
            return creditable(connection, contract, correction.number, unit), len(issues) + 1

        left, issue = self.database.read(read)
        within = limited(correction, left)
        if within is None or not within.net.amount:
            return None
        period = _window(document)
        usage = self.usage.month(original.organization, period)
        reason = "Usage that arrived late: the period was rated again"
        credit = Credit(within.lines, issue, reason, within, usage)
        return credit_draft(agreed, period, correction.number, credit)

    def _measured(self, agreed: AgreedContract, period: Window, issued: Iterable[Invoice]) -> MeasuredPeriod:
        organization = OrganizationId(agreed.contract.organization)
        needed = list(needed_meters(agreed, period))
        requests = [
            MeterRequest(
                organization, each.charge.meter, each.window, each.charge.group_by, agreed.contract.gap_rule
            )
            for each in needed
        ]
        read = self.usage.metered(requests) if requests else []
        meters = {(piece.charge.charge, piece.window): each for piece, each in zip(needed, read, strict=True)}
        spent = spent_before(agreed.contract, period, (one.document for one in issued if one.kind == USAGE))
        usage = self.usage.month(organization, period)
        peaks, is_sealed = self._peaks(agreed, period)
        return MeasuredPeriod(
            usage if is_sealed else replace(usage, sealed=False),
            meters,
            spent,
            capacity_peaks=peaks,
            marketplace=self._told(agreed, period),
        )

    def _told(self, agreed: AgreedContract, period: Window) -> dict[tuple[str, Window], Told]:
        """What AWS Marketplace was told of each charge that it bills, and took."""
        found: dict[tuple[str, Window], Told] = {}
        for piece in needed_meters(agreed, period):
            subscription = piece.charge.marketplace
            if subscription is not None:
                of = agreed.contract.contract, piece.charge.charge
                load = partial(load_told, subscription=subscription, of=of, window=piece.window)
                found[piece.charge.charge, piece.window] = self.database.read(load)
        return found

    def _told_anew(self, document: Mapping[str, Any]) -> bool:
        """Whether more is known of what AWS Marketplace took than when a document was made."""
        for each in document["usage"].get("marketplace", ()):
            window = Window(utc_ms(each["start"]), utc_ms(each["end"]))
            count = partial(count_rows, subscription=subscription_of(each), window=window)
            if self.database.read(count) != int(each["rows"]):
                return True
        return False

    def _peaks(self, agreed: AgreedContract, period: Window) -> tuple[tuple[CapacityPeak, ...], bool]:
        """What a capacity true-up that is due rests on, and whether all hours of it are sealed."""
        contract, found, is_sealed = agreed.contract, [], True
        for start, end in due_periods(contract, period):
            usage = self.usage.month(OrganizationId(contract.organization), capacity_window(contract, start, end))
            found.append(capacity_peak(contract, start, end, usage))
            is_sealed = is_sealed and usage.sealed
        return tuple(found), is_sealed


def _reach(agreed: AgreedContract, period: Window) -> Window:
    """All that a monthly invoice rests on: with a capacity true-up, the term's year so far."""
    due = due_periods(agreed.contract, period)
    first_ms = midnight_ms(due[0][0], agreed.contract.time_zone) if due else period.start_ms
    return Window(min(first_ms, period.start_ms), period.end_ms)


def _contract_text(document: Mapping[str, Any]) -> str:
    return str(document["contract"]["snapshot"])


def _window(document: Mapping[str, Any]) -> Window:
    return Window(utc_ms(document["period"]["start"]), utc_ms(document["period"]["end"]))


def _is_positive(amount: Money) -> bool:
    return not amount < Money.zero(amount.currency)
