"""A draft as the finalizer takes it: bytes and figures alone, so that another process can have made it."""

from __future__ import annotations

from dataclasses import dataclass

from billing.basis import steps_sha256_of
from billing.contract import LegalEntity
from billing.draft import CREDIT_NOTE, Draft
from billing.ledger import Posting, postings_of
from billing.marketplace.terms import Subscription
from billing.proof.rows import STEPS, now_steps
from kernel.ids import OrganizationId
from kernel.money import Money
from kernel.window import Window


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is needed to give a draft its number, without rating it again."""

    organization: OrganizationId
    contract: str
    contract_sha256: str  # of the version that it was made from
    legal_entity: LegalEntity
    kind: str
    period_name: str
    issue: int | None
    period: Window
    grace_hours: int
    needs_approval: bool
    payment_days: int
    sealed: bool
    net: Money
    gross: Money
    content: bytes  # the draft's canonical JSON
    content_sha256: str
    postings: tuple[Posting, ...]
    corrections: tuple[tuple[str, tuple[str, ...]], ...]  # number, and the documents that counted as billed
    reference: str | None
    told: tuple[tuple[Subscription, Window, int], ...]  # rows of what AWS Marketplace took, by line
    contradicted: tuple[tuple[str, int], ...]  # charge and hour of which AWS has a quantity that nobody knows
    files: dict[str, str]  # sha256 of the files of its bundle that the document itself does not tie

    @property
    def is_credit_note(self) -> bool:
        return self.kind == CREDIT_NOTE


def _files(draft: Draft) -> dict[str, str]:
    """A credit note's own usage is what its invoice was rated again from."""
    files = {STEPS: steps_sha256_of(draft.usage)} if draft.usage else {}
    if draft.kind != CREDIT_NOTE:
        files |= {now_steps(each.number): each.basis.steps_sha256 for each in draft.corrections if each.basis}
    return files


def _told(draft: Draft) -> tuple[tuple[Subscription, Window, int], ...]:
    of_corrections = (told for each in draft.corrections if each.basis for told in each.basis.marketplace)
    return tuple((each.subscription, each.window, len(each.rows)) for each in (*draft.marketplace, *of_corrections))


def prepare(draft: Draft) -> Prepared:
    """All of a draft that its final document needs."""
    contract = draft.agreed.contract
    return Prepared(
        organization=OrganizationId(contract.organization),
        contract=contract.contract,
        contract_sha256=draft.agreed.snapshot.sha256,
        legal_entity=contract.legal_entity,
        kind=draft.kind,
        period_name=draft.period_name,
        issue=draft.issue,
        period=draft.period,
        grace_hours=contract.grace_hours,
        needs_approval=contract.approval,
        payment_days=contract.payment_days,
        sealed=draft.sealed,
        net=draft.net,
        gross=draft.gross,
        content=draft.json(),
        content_sha256=draft.sha256,
        postings=postings_of(draft),
        corrections=tuple((each.number, each.counted) for each in draft.corrections),
        reference=draft.reference,
        told=_told(draft),
        contradicted=tuple((each.charge, at_ms) for each in draft.marketplace for at_ms in each.contradicted),
        files=_files(draft),
    )
