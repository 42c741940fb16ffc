"""Errors, classed by what the caller must do.

    ByocError
    ├── Retry              a passing fault: try the same call again, with backoff
    │   └── SlowDown       the same, not before `retry_after_seconds`
    ├── Refuse             the request is wrong or not allowed: do not repeat it unchanged
    │   ├── InvalidInput   a file or body that a person or a program handed in; carries findings
    │   ├── NotFound       the thing named does not exist
    │   ├── Conflict       the thing is in another state than the caller believes
    │   └── Denied         the caller may not do this
    ├── DeadLetter         this record can never be handled: put it aside with the reason, go on
    └── Stop               this process must end: what it believes is no longer true (fenced, corrupt)

Components derive from these and draw their own part of the tree in their own `errors.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FOREIGN_TEXT_LIMIT = 300
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s@]*@")


class ByocError(Exception):
    """Root of the tree; the message says what happened and what to do next."""

    def __reduce__(self) -> tuple[Any, ...]:
        """From another process it comes as it was: `Exception` would call the class with the message alone."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[ByocError], args: tuple[Any, ...], state: Mapping[str, Any]) -> ByocError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class Retry(ByocError):
    """A passing fault. Try again with backoff."""


class SlowDown(Retry):
    """Try again, not before `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Refuse(ByocError):
    """Wrong or not allowed. Repeating it unchanged gives the same answer."""


class NotFound(Refuse):
    """The thing named does not exist."""


class Conflict(Refuse):
    """The thing is in another state than the caller believes."""


class Denied(Refuse):
    """The caller may not do this."""


class DeadLetter(ByocError):
    """The record can never be handled; store it aside with this reason and go on."""


class Stop(ByocError):
    """The process must end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect of an input: where, what was found, what is allowed."""

    source: str  # file name, or the name of the body
    where: str  # line ("line 12") or field path ("jobs[0].interval")
    found: str
    allowed: str
    line: int | None = None  # of the field in the file, from 1

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.where}: found {truncate(self.found)}; allowed: {self.allowed}"


class InvalidInput(Refuse):
    """An input was refused as a whole; nothing of it was applied."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        if not findings:
            raise ValueError("an InvalidInput needs at least one finding")
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))

    @classmethod
    def single(cls, source: str, where: str, found: object, allowed: str) -> InvalidInput:
        return cls([Finding(source, where, str(found), allowed)])


def truncate(text: str, limit: int = FOREIGN_TEXT_LIMIT) -> str:
    """Foreign text for a message or a log line: printable, bounded."""
    printable = "".join(character if character.isprintable() else "?" for character in text[: limit + 1])
    return printable if len(printable) <= limit else printable[:limit] + "..."


def without_passwords(text: str) -> str:
    """Text with the passwords in its URLs replaced."""
    return _URL_PASSWORD.sub(r"\1***@", text)


def raise_findings(findings: Iterable[Finding]) -> None:
    """Raise `InvalidInput` if there is any finding."""
    listed = list(findings)
    if listed:
        raise InvalidInput(listed)
