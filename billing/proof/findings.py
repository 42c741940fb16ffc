"""What a verification found, in words: `subject: statement`, one line each."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """`yours`: what no file can show and only the customer knows; `unproved`: what more files would have shown."""

    proved: list[str] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)
    yours: list[str] = field(default_factory=list)


class Missing(Exception):
    """The bundle holds nothing of what would be needed; the text says what."""
