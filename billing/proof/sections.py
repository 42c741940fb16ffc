"""The parts of a document that were rated from hours of their own: its period, what it corrects, its true-ups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from billing.draft import CREDIT_NOTE
from billing.proof.loading import window_of
from billing.proof.rows import BILLED, CAPACITY, CORRECTED, NOW
from kernel.window import DAY_MS, Window, whole_hours

USAGE_PLACE = "usage"
MOST_MS = 31 * DAY_MS  # of which a verifier holds the samples at once; a term's year is twelve of these


@dataclass(frozen=True, slots=True)
class Section:
    """Rows and levels of `period` in `folder` of a bundle, of which those of `window` are held against kept frames.

    `place`: in the document, of what states them (`stated`: digest, gaps, meters). `evidence`: the folder of the
    bundle with what ties `window` to pushes. `number`: the invoice that is corrected, "" for the document's own
    usage; `billed`: the folder with that invoice's rows as they were billed.
    """

    name: str
    place: str
    folder: str
    evidence: str
    stated: Mapping[str, Any] = field(repr=False)
    period: Window
    window: Window
    number: str = ""
    billed: str = ""

    @property
    def is_own(self) -> bool:
        """The document's own period."""
        return self.place == USAGE_PLACE

    @property
    def is_capacity(self) -> bool:
        """A period that a capacity true-up looks at."""
        return f".{CAPACITY}[" in self.place

    def texts(self, found: list[str]) -> list[str]:
        """`subject: statement` lines that say of what they are, where it is not the document's own period."""
        if self.is_own:
            return found
        parts = (text.partition(": ") for text in found)
        return [f"{subject}: of {self.name}: {said}" for subject, _, said in parts]


def sections_of(document: Mapping[str, Any], period_of: Callable[[str], Window]) -> Iterator[Section]:
    """The document's own first. `period_of` gives the period of an invoice that it corrects, by number."""
    corrections, usage = document.get("corrections", ()), document["usage"]
    is_credit = document["kind"] == CREDIT_NOTE
    if usage is not None:
        number = document["credits"] if is_credit else ""
        stated = {**usage, **corrections[0]} if is_credit and corrections else usage  # rated again from these rows
        billed = f"{CORRECTED}/{number}/{BILLED}" if number else ""
        own = window_of(document["period"])
        yield Section("", USAGE_PLACE, "", "", stated, own, own, number, billed)
        yield from _capacity(stated, "corrections[1]" if is_credit else USAGE_PLACE, "", number)
    for at, each in enumerate(() if is_credit else corrections, start=1):
        number, place = each["number"], f"corrections[{at}]"
        folder, period = f"{CORRECTED}/{number}/{NOW}", period_of(number)
        billed = f"{CORRECTED}/{number}/{BILLED}"
        yield Section(f"{number} as corrected", place, folder, folder, each, period, period, number, billed)
        yield from _capacity(each, place, folder, number)


def _capacity(stated: Mapping[str, Any], place: str, folder: str, number: str) -> Iterator[Section]:
    for at, each in enumerate(stated.get("capacity", ()), start=1):
        period, within = window_of(each), PurePosixPath(folder, CAPACITY, str(at))
        for piece, window in enumerate(pieces_of(period), start=1):
            name = f"the true-up, {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
            at_place, evidence = f"{place}.capacity[{at}]", f"{within}/{piece}"
            yield Section(name, at_place, str(within), evidence, each, period, window, number)


def pieces_of(period: Window) -> Iterator[Window]:
    """The period cut at whole hours into parts of at most `MOST_MS`."""
    first_ms = whole_hours(period).start_ms
    yield from period.split(list(range(first_ms, period.end_ms, MOST_MS)))
