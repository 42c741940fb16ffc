"""A whole document made again from its bundle by the code that issued it, and compared with what was issued."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing.agreed import AgreedContract, agreed_on
from billing.basis import basis_of
from billing.corrections import CREDIT, Correction, billed_lines, corrected
from billing.draft import (
    COMMITMENT,
    CREDIT_NOTE,
    USAGE,
    Credit,
    Draft,
    commitment_draft,
    credit_draft,
    rated_lines,
    threshold_draft,
    usage_draft,
)
from billing.gaps import with_gaps
from billing.proof.amounts import check_lines, currency_of, difference
from billing.proof.findings import Findings, Missing
from billing.proof.loading import load_rows, load_signed, load_usage, parse_json, read_file, window_of
from billing.proof.measured import Place, load_measured
from billing.proof.rows import BILLED, CORRECTED, COUNTED, INVOICE, NOW, ROWS, THRESHOLDS
from billing.rating.commitment import charges_of
from billing.thresholds import THRESHOLD
from kernel.errors import InvalidInput
from kernel.ids import OrganizationId
from kernel.money import Money
from metering.usage.model import UsageMonth
from metering.usage.rows import digest_of

OF_THE_NUMBER = frozenset({"status", "number", "issued_at", "issue_date", "issue", "payment"})  # no draft has them
_REASON = "contract, usage and documents of the bundle"


@dataclass(frozen=True, slots=True)
class Again:
    """`verify`: what checks the bundle of a document within this one; it returns what it did not prove."""

    folder: Path
    document: Mapping[str, Any]
    agreed: AgreedContract
    authority_pem: bytes
    verify: Callable[[Path], tuple[str, ...]]
    found: Findings

    def check(self, usage: UsageMonth | None) -> None:
        """Raises InvalidInput that names the first place that does not follow."""
        kind, lines = self.document["kind"], self.document["lines"]
        own = [line for line in lines if not line.get("corrects")]
        try:
            draft = self._draft(kind, usage)
        except Missing as missing:
            again = self._lines_alone(usage)
            self.found.proved.append(f"amounts: {again} of {len(own)} lines recomputed from rows and contract")
            self.found.unproved.append(f"amounts: the other lines of {self.document['number']}: {missing}")
            return
        self._compare(draft)
        if own:
            self.found.proved.append(f"amounts: {len(own)} of {len(own)} lines recomputed from rows and contract")
        self.found.proved.append(
            "document: tax, discounts, totals, usage by day and cluster, parties and notes made again, and alike"
        )

    def _draft(self, kind: str, usage: UsageMonth | None) -> Draft:
        if kind == COMMITMENT:
            return self._commitment()
        if kind == CREDIT_NOTE:
            return self._credit_note(usage)
        if kind not in {USAGE, THRESHOLD} or usage is None:
            raise self._wrong("kind", kind, "usage, threshold, commitment, credit-note")
        name = self.document["period"]["name"]
        place = Place(self.folder, self.document["usage"], self._source, self.authority_pem)
        measured = load_measured(place, self.agreed, usage)
        thresholds = tuple(place.signed(THRESHOLDS))
        for one in thresholds:
            if (one["kind"], one["contract"]["id"]) != (THRESHOLD, self.agreed.contract.contract):
                raise self._wrong(THRESHOLDS, one["number"], "threshold invoices of this contract")
        measured = replace(measured, thresholds=thresholds)
        if kind == THRESHOLD:
            draft = threshold_draft(self.agreed, name, usage.window, measured)
            if draft is None:
                raise self._wrong("lines", "a threshold invoice", "none: the contract's threshold is not reached")
            return draft
        corrections = (self._correction(each) for each in self.document.get("corrections", ()))
        measured = replace(measured, corrections=tuple(corrections))
        self._name_others("threshold invoices of the month", [one["number"] for one in thresholds])
        return usage_draft(self.agreed, name, usage.window, measured)

    def _commitment(self) -> Draft:
        name = self.document["period"]["name"]
        for charge in charges_of(self.agreed.contract):
            if charge.start.isoformat() == name:
                return commitment_draft(self.agreed, charge)
        raise self._wrong("period.name", name, "a day on which the contract's commitment grows")

    def _credit_note(self, usage: UsageMonth | None) -> Draft:
        number, document = self.document["credits"], self.document
        issue = 1  # the document does not say which
        window, reason = window_of(document["period"]), document["reason"]
        corrections = document.get("corrections", ())
        if corrections:
            correction = self._correction(corrections[0])
            credit = Credit(correction.lines, issue, reason, correction, usage)
            return credit_draft(self.agreed, window, number, credit)
        original = self._original(number)
        amounts: dict[int, Money] = {}
        for at, line in enumerate(document["lines"], start=1):
            index = _credited(line, original["lines"])
            if index is None:
                raise self._wrong(f"lines[{at}]", line["description"], f"the credit of a line of {number}")
            amounts[index] = Money(-Decimal(line["amount"]), currency_of(document))
        lines = tuple(
            replace(line, kind=f"{CREDIT}:{line.kind}", corrects=number)
            for line in billed_lines(original, amounts, self._source)
        )
        self.found.proved.append(f"credit: {len(lines)} lines give back no more than lines of {number} were")
        self.found.yours.append(f"credit: why a person gave back this much of {number}: {reason}")
        return credit_draft(self.agreed, window, number, Credit(lines, issue, reason))

    def _original(self, number: str) -> dict[str, Any]:
        """The corrected invoice, as it was billed, proved by its own bundle within this one."""
        within = self.folder / CORRECTED / number / BILLED
        if not within.exists():
            raise Missing(f"the bundle holds nothing of {number}, which it corrects")
        left = self.verify(within)
        self.found.unproved += [f"of {number}, which is corrected: {text}" for text in left]
        original: dict[str, Any] = parse_json(read_file(within / INVOICE), within / INVOICE)
        if original["number"] != number:
            raise InvalidInput.single(str(within / INVOICE), "number", original["number"], number)
        return original

    def _correction(self, each: Mapping[str, Any]) -> Correction:
        """What later usage changed of an earlier invoice, from its bundle and the usage as it is now."""
        number, is_credit = each["number"], self.document["kind"] == CREDIT_NOTE
        within = self.folder / CORRECTED / number
        original = self._original(number)
        agreed, owner = agreed_on(original), OrganizationId(original["customer"]["organization"])
        counted = [
            original if one == number else load_signed(within / COUNTED / one, self.authority_pem)
            for one in each["counted"]
        ]
        latest = self.folder if is_credit else within / NOW
        rows, stated = load_rows(latest), each["revision_digest"]
        if digest_of(rows) != stated:
            raise InvalidInput.single(str(latest / ROWS), "sha256", digest_of(rows), f"the document's, {stated}")
        if agreed.contract.gap_policy != "not-billed" and "gaps" not in each:
            raise Missing(f"the document does not state the gaps of {number} as they are now")
        rows = with_gaps(rows, each.get("gaps", ()), self._source)
        now = load_usage(latest, owner, window_of(original["period"]), rows)
        measured = load_measured(Place(latest, each, self._source, self.authority_pem), agreed, now)
        rated = rated_lines(agreed, now.window, measured)
        found = corrected(self.document, original, counted, rated, now.revision_digest)
        if found is None:
            raise self._wrong(f"corrections of {number}", each["net"], "none, by rows and contract")
        basis = basis_of(agreed.contract, measured)
        self.found.proved.append(
            f"corrections: {len(found.lines)} lines from the rows of {number} as billed, and as rated again"
        )
        self._name_others(f"documents that bill the period of {number}", [one["number"] for one in counted])
        return replace(found, basis=basis)

    def _name_others(self, what: str, numbers: list[str]) -> None:
        if numbers:
            named = ", ".join(numbers)
            self.found.yours.append(
                f"documents: that there are no other {what} than {named}: compare with those you got"
            )

    def _lines_alone(self, usage: UsageMonth | None) -> int:
        """How many lines follow where the rest of the document can't be made again."""
        if usage is None or self.document["kind"] != USAGE:
            return 0
        place = Place(self.folder, self.document["usage"], self._source, self.authority_pem)
        try:
            rated = rated_lines(self.agreed, usage.window, load_measured(place, self.agreed, usage))
        except Missing:
            return 0
        lines = self.document["lines"]
        stated = [(at + 1, lines[at] if at < len(lines) else None) for at in range(len(rated))]
        return check_lines(rated, stated, self._source, _REASON)

    def _compare(self, draft: Draft) -> None:
        expected = json.loads(json.dumps(draft.document()))
        mine, stated = (
            {key: value for key, value in one.items() if key not in OF_THE_NUMBER}
            for one in (expected, self.document)
        )
        if mine == stated:
            return
        for key in sorted(mine.keys() ^ stated.keys()):
            raise self._wrong(key, repr(stated.get(key, "nothing")), f"{mine.get(key, 'nothing')!r}, by {_REASON}")
        where, found, allowed = difference(mine, stated)
        raise self._wrong(where.removeprefix("."), found, f"{allowed}, by {_REASON}")

    @property
    def _source(self) -> str:
        return str(self.folder / INVOICE)

    def _wrong(self, where: str, found: str, allowed: str) -> InvalidInput:
        return InvalidInput.single(self._source, where, found, allowed)


def _credited(line: Mapping[str, Any], lines: list[dict[str, Any]]) -> int | None:
    """The index of the line that a line written by a person gives back."""
    for index, one in enumerate(lines):
        is_same = line["kind"] == f"{CREDIT}:{one['kind']}" and line["period"] == one["period"]
        parts = line["derivation"].get("parts", ({},))
        if is_same and parts[0].get("rate", {}).get("basis") == f"of line {index + 1}":
            return index
    return None
