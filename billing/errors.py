"""Errors of billing, under the kernel's tree.

Refuse
├── CapacityRefused          the licence does not cover what is asked for; the message says by how much
├── NotFound
│   └── NoContract           no contract of the organization covers the period
└── Conflict
    ├── AmbiguousContract    more than one contract covers the period: name one
    ├── SnapshotConflict     that id and version is stored already, with another text
    ├── UsageNotSealed       an hour of the period can still change: close the hours first
    ├── GraceNotOver         the period has not ended, or late usage is still waited for
    ├── QuantityUnknown      AWS Marketplace has another quantity of an hour than it was told: say which
    ├── NotApproved          the contract asks for an approval of exactly this draft
    └── WrongState           the document's life does not allow that now
"""

from __future__ import annotations

from kernel.errors import Conflict, NotFound, Refuse


class CapacityRefused(Refuse):
    """The licence does not cover what is asked for."""


class NoContract(NotFound):
    """No contract of the organization covers the period."""


class AmbiguousContract(Conflict):
    """More than one contract covers the period."""


class SnapshotConflict(Conflict):
    """That id and version is stored already, with another text."""


class UsageNotSealed(Conflict):
    """An hour of the period can still change."""


class GraceNotOver(Conflict):
    """The period has not ended, or late usage is still waited for."""


class QuantityUnknown(Conflict):
    """AWS Marketplace has another quantity of an hour than it was told, and nobody has said which."""


class NotApproved(Conflict):
    """The contract asks for an approval of exactly this draft."""


class WrongState(Conflict):
    """The document's life does not allow that now."""
