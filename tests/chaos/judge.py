"""Every value that the targets handed out against every row that lies in the lake's files, raw."""

from __future__ import annotations

import math
import struct
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from console.demo.witness import Row
from tests.chaos.target import PAGE, Labels, Page

ATTACHED = frozenset({"job", "instance", "organization", "project"})
PREFIX = "chaos_"
Group = list[tuple[Labels, float]]  # what lies in the lake of one scrape, stale markers left out


@dataclass(slots=True)
class Verdict:
    """`stored` counts values that are there, once, as they were handed out; the lists name what is not so."""

    stored: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.different)


def judge(rows: Sequence[Row], pages: Iterable[Page], through_ms: int, unsettled: Iterable[Page] = ()) -> Verdict:
    """Hold the lake against the pages that were handed out up to `through_ms`; later ones may be there, whole.

    A page of `unsettled` (the last before its scraper was killed) may be missing, but only as a whole: nothing was
    promised for it before it was synced. So may as many between two that are there as the collector itself reports
    failed scrapes between these two.
    """
    known = {(page.instance, page.number): page for page in pages}
    verdict = Verdict()
    _check_copies(rows, verdict)
    found: Counter[tuple[str, int]] = Counter()
    scraped: dict[str, list[tuple[int, int]]] = defaultdict(list)  # number and time of what is there
    for (instance, at_ms), group in _scrapes(rows).items():
        number = next((value for labels, value in group if labels == (("__name__", PAGE),)), math.nan)
        page = known.get((instance, int(number))) if number == number else None  # noqa: PLR0124
        if page is None:
            verdict.different.append(f"{instance} at {at_ms}: rows of a page that was never handed out: {group}")
            continue
        found[instance, page.number] += 1
        scraped[instance].append((page.number, at_ms))
        _check_page(page, at_ms, group, verdict)
    verdict.duplicated += [f"page {key} at {times} times" for key, times in found.items() if times > 1]
    missing = known.keys() - found.keys() - {(page.instance, page.number) for page in unsettled}
    missing = {key for key in missing if known[key].served_ms <= through_ms}
    verdict.lost += [f"page {key}" for key in sorted(missing - _failed(rows, missing, scraped))]
    return verdict


def _check_copies(rows: Sequence[Row], verdict: Verdict) -> None:
    copies = Counter((labels, at_ms) for labels, at_ms, _ in rows)
    verdict.duplicated += [f"{count} rows: {labels} at {at}" for (labels, at), count in copies.items() if count > 1]


def _check_page(page: Page, at_ms: int, group: Group, verdict: Verdict) -> None:
    stored = {labels: _bits(value) for labels, value in group}
    handed_out = {labels: _bits(value) for labels, value in page.samples.items()}
    name = f"page {page.number} of {page.instance}"
    verdict.lost += [f"{name}: {labels}" for labels in handed_out.keys() - stored.keys()]
    verdict.different += [f"{name}: {labels}" for labels, bits in stored.items() if handed_out.get(labels) != bits]
    if at_ms > page.served_ms:
        verdict.different.append(f"{name}: stored at {at_ms}, handed out at {page.served_ms}")
    verdict.stored += sum(stored.get(labels) == bits for labels, bits in handed_out.items())


def _scrapes(rows: Iterable[Row]) -> Mapping[tuple[str, int], Group]:
    scrapes: dict[tuple[str, int], Group] = defaultdict(list)
    for labels, at_ms, value in rows:
        named = dict(labels)
        if named["__name__"].startswith(PREFIX) and not math.isnan(value):
            own = tuple(label for label in labels if label[0] not in ATTACHED)
            scrapes[named["instance"], at_ms].append((own, value))
    return scrapes


def _failed(
    rows: Iterable[Row], missing: Iterable[tuple[str, int]], scraped: Mapping[str, Sequence[tuple[int, int]]]
) -> set[tuple[str, int]]:
    """Of `missing`, those between two stored scrapes that have as many with `up` 0 between them.

    Pages go by their order, not by when they were made: on a busy machine that is after the next scrape began.
    """
    failed_at: dict[str, list[int]] = defaultdict(list)
    for labels, at_ms, value in rows:
        named = dict(labels)
        if named["__name__"] == "up" and value == 0:
            failed_at[named["instance"]].append(at_ms)
    runs: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    stored = {instance: sorted(found) for instance, found in scraped.items()}
    for instance, number in missing:
        runs[instance, bisect(stored.get(instance, []), (number, 0))].append((instance, number))
    failed: set[tuple[str, int]] = set()
    for (instance, position), run in runs.items():
        times = [-math.inf, *(at_ms for _, at_ms in stored.get(instance, [])), math.inf]
        since_ms, until_ms = times[position], times[position + 1]
        if len(run) <= sum(since_ms < at_ms < until_ms for at_ms in failed_at[instance]):
            failed.update(run)
    return failed


def _bits(value: float) -> bytes:
    return struct.pack("<d", value)
