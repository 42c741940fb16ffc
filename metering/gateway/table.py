"""The series of one tenant by number: checked once, written in its name once, cut into pages for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collector.wire.model import Labels
from kernel.ids import Tenant
from metering.gateway.series import Refusal, check_series, plain_canonical
from metering.gateway.settings import TenantLimits
from metering.samples import LabelPage, make_page

PAGE_SERIES = 128
_LAYOUT_BYTES = 4 * 1024 * 1024
_FIRST_SIZE = 1024
_REFUSALS = tuple(Refusal)
_SERIES_BYTES = 300  # of a series beside its labels: objects, dictionary entry, arrays
Numbers = npt.NDArray[np.int32]


def refusal_of(number: int) -> Refusal:
    """Why a series got this negative number."""
    return _REFUSALS[-1 - number]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the labels of a body were written: pages, by row the index of its series in them, distinct numbers."""

    pages: tuple[LabelPage, ...]
    index: Numbers
    series: npt.NDArray[np.int64]

    @property
    def size_bytes(self) -> int:
        return 8 * len(self.pages) + self.index.nbytes + self.series.nbytes


class Layouts:
    """Layouts of bodies, for bodies of the same series in the same order. Bounded by bytes."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int, int], tuple[Numbers, Layout]] = {}
        self._size_bytes = 0

    def find(self, numbers: Numbers) -> Layout | None:
        """That of rows of these series, of which none was refused."""
        kept = self._kept.get(_ends_of(numbers))
        return kept[1] if kept is not None and np.array_equal(kept[0], numbers) else None

    def add(self, numbers: Numbers, layout: Layout) -> None:
        """Keep what was found for these rows, in the place of what has the same ends."""
        size = numbers.nbytes + layout.size_bytes
        if size > _LAYOUT_BYTES // 2:
            return
        if self._size_bytes + size > _LAYOUT_BYTES:
            self._kept.clear()
            self._size_bytes = 0
        self._kept[_ends_of(numbers)] = numbers, layout
        self._size_bytes += size


def _ends_of(numbers: Numbers) -> tuple[int, int, int]:
    return (len(numbers), int(numbers[0]), int(numbers[-1])) if len(numbers) else (0, 0, 0)


class SeriesTable:
    """Numbers are given in the order of arrival and never change; a table that grew too large is left for a new.

    Not for concurrent use. A push keeps the table that its numbers are of; labels of numbers that were given stay.
    """

    def __init__(self, tenant: Tenant, limits: TenantLimits) -> None:
        self._tenant, self._limits = tenant, limits
        self._numbers: dict[bytes, int] = {}
        self._pages: dict[int, LabelPage] = {}
        self.layouts = Layouts()
        self.canonical: list[bytes] = []
        self.size_bytes = 0
        self.lengths = np.zeros(_FIRST_SIZE, np.int64)  # of the labels, in bytes
        self.page_bytes = np.zeros(_FIRST_SIZE // PAGE_SERIES, np.int64)  # of the labels of each page
        self.claimed = np.zeros(_FIRST_SIZE, np.bool_)  # an organization or project label was another's

    def __len__(self) -> int:
        return len(self.canonical)

    def number(self, labels: Labels) -> int:
        """The number of the series that these labels make in the tenant's name, or a negative one: refused."""
        checked = check_series(labels, self._tenant, self._limits)
        if checked.canonical is None:
            assert checked.refusal is not None
            return -1 - _REFUSALS.index(checked.refusal)
        number = self._numbers.get(checked.canonical)
        if number is None:
            number = self._add(checked.canonical)
        if checked.claims:
            self.claimed[number] = True
        return number

    def number_of(self, parts: Sequence[bytes]) -> int | None:
        """The same from names and values in turn; None when `number` has to look at them more closely."""
        canonical = plain_canonical(parts, self._tenant, self._limits)
        if canonical is None:
            return None
        number = self._numbers.get(canonical)
        return self._add(canonical) if number is None else number

    def _add(self, canonical: bytes) -> int:
        number = self._numbers[canonical] = len(self.canonical)
        self.canonical.append(canonical)
        self.size_bytes += _SERIES_BYTES + len(canonical)
        if number >= len(self.lengths):
            self.lengths = np.concatenate([self.lengths, np.zeros_like(self.lengths)])
            self.claimed = np.concatenate([self.claimed, np.zeros_like(self.claimed)])
            self.page_bytes = np.concatenate([self.page_bytes, np.zeros_like(self.page_bytes)])
        self.lengths[number] = len(canonical)
        self.page_bytes[number // PAGE_SERIES] += len(canonical)
        return number

    def page(self, number: int) -> LabelPage:
        """The page of the series from `number * PAGE_SERIES` on; the last one has those that are there."""
        page = self._pages.get(number)
        start = number * PAGE_SERIES
        if page is None or page.count < min(PAGE_SERIES, len(self.canonical) - start):
            page = self._pages[number] = make_page(self.canonical[start : start + PAGE_SERIES])
        return page
