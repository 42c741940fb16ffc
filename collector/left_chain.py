"""Entries of the ledger of what left, each holding the SHA-256 of the one before it. Pure.

An entry's hash covers the canonical JSON (names sorted, no spaces, UTF-8, integers and strings only) of
{at_ms, content, kind, previous, sequence}. Whoever can rewrite the whole file can make a new chain, so the head
(`sequence:hash`) is worth keeping elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from kernel.errors import Finding, InvalidInput, Stop

GENESIS = "0" * 64
SOURCE = "ledger"


class LedgerBroken(Stop):
    """The ledger is not what was written. Keep the file as it is and find out who changed it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Kind(StrEnum):
    """What an entry is about."""

    LEFT = "left"  # frames that the gateway acknowledged
    GAP = "gap"  # frames that never left
    POLICY = "policy"  # another policy took effect
    SHIPPING = "shipping"  # it stopped or goes on
    CHECKPOINT = "checkpoint"  # older entries were rolled up; this attests the sums


@dataclass(frozen=True, slots=True)
class Entry:
    """A row. `content` is canonical JSON."""

    sequence: int
    at_ms: int
    kind: str
    content: str
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """Of everything but the hash itself."""
        return entry_hash(self.sequence, self.at_ms, self.kind, self.content, self.previous)

    def fields(self) -> dict[str, Any]:
        """Its content as values. Raises LedgerBroken."""
        return parse_content(self.content, f"entry {self.sequence}")


@dataclass(frozen=True, slots=True)
class Rollup:
    """Sums of the entries `first` to `last`, which are gone. `previous` and `hash` join it to the chain."""

    first: int
    last: int
    level: str  # hour, day or total
    content: str
    previous: str
    hash: str
    digest: str

    def computed_digest(self) -> str:
        """SHA-256 of the canonical JSON of everything but the digest itself."""
        text = (
            f'{{"content":{self.content},"first":{self.first},"hash":"{self.hash}","last":{self.last},'
            f'"level":"{self.level}","previous":"{self.previous}"}}'
        )
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def fields(self) -> dict[str, Any]:
        """Its content as values. Raises LedgerBroken."""
        return parse_content(self.content, f"entries {self.first} to {self.last}")


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain to keep elsewhere. Rendered `sequence:hash`."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The inverse of `str`. Raises InvalidInput."""
        sequence, _, digest = text.partition(":")
        digits = sequence.isascii() and sequence.isdecimal() and len(sequence) <= 18
        if not digits or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise InvalidInput.single("head", "value", repr(text), "sequence:hash, as `left --verify` prints it")
        return cls(int(sequence), digest)


def canonical(content: Mapping[str, Any]) -> str:
    """Canonical JSON of integers, strings, booleans, lists and mappings."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def entry_hash(sequence: int, at_ms: int, kind: str, content: str, previous: str) -> str:
    """SHA-256 (hex) of the canonical JSON of an entry; `content` is canonical JSON already."""
    text = f'{{"at_ms":{at_ms},"content":{content},"kind":"{kind}","previous":"{previous}","sequence":{sequence}}}'
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_link(previous: Head, entry: Entry) -> Finding | None:
    """What is wrong with an entry that should follow `previous`."""
    if entry.sequence != previous.sequence + 1:
        return finding(previous.sequence + 1, f"entry {entry.sequence} in its place", "this entry; it was removed")
    if entry.previous != previous.hash:
        return finding(entry.sequence, f"previous hash {entry.previous}", f"{previous.hash}, the entry before it")
    if entry.computed_hash() != entry.hash:
        return finding(entry.sequence, f"content of hash {entry.computed_hash()}", f"{entry.hash}; it was changed")
    return None


def finding(sequence: int, found: str, allowed: str) -> Finding:
    """A defect at an entry."""
    return Finding(SOURCE, f"entry {sequence}", found, allowed)


def parse_content(text: str, where: str) -> dict[str, Any]:
    """Raises LedgerBroken."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise LedgerBroken(Finding(SOURCE, where, "content that is no JSON object", "what was written"))
    return fields
