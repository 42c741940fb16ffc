"""What makes a scraped body malformed."""

from __future__ import annotations

from kernel.errors import InvalidInput, truncate


class ExpositionError(InvalidInput):
    """A scraped body breaks its format. Nothing of it is used: the scrape failed."""

    @classmethod
    def at(cls, line: int, found: bytes | str, allowed: str) -> ExpositionError:
        """One finding; `line` counts from 1."""
        text = found if isinstance(found, str) else found[:200].decode("utf-8", "backslashreplace")
        error = cls.single("exposition", f"line {line}", repr(truncate(text, 120)), allowed)
        assert isinstance(error, ExpositionError)
        return error


class PageNeeded(Exception):
    """A body that was read as it came has to be read whole: ask for it once more."""


class SyntaxFault(Exception):
    """Internal to the parsers: what is wrong at this place; the caller knows the line."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


class Unterminated(SyntaxFault):
    """A quoted text has no end in the bytes given; there may be more on the next line."""
