"""Why a body of remote write is refused.

kernel.errors.InvalidInput
└── WireError            the body or a header of a push breaks the contract: 400
    └── BodyTooLarge     the body, or the size it declares, is over a limit: 413
"""

from __future__ import annotations

from typing import Self

from kernel.errors import Finding, InvalidInput


class WireError(InvalidInput):
    """A body or a header breaks the contract. Nothing of it was used."""

    @classmethod
    def at(cls, where: str, found: object, allowed: str) -> Self:
        """One finding in the body of a push: `where` is a field path or a byte offset."""
        return cls([Finding("remote write", where, str(found), allowed)])


class BodyTooLarge(WireError):
    """The body is over a limit; a smaller push may pass."""
