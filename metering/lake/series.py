"""The series that the writer has met: each gets a small number (slot) in this process and an id in the lake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, Tenant
from metering.lake.rows import Ids, id_words
from metering.record import series_id_prefix

USUAL_LABEL_BYTES = 400
SLOTS_PER_LABELS = 8  # an id takes a small part of what its labels do

Slots = npt.NDArray[np.int64]


class Series(NamedTuple):
    """One row of the series table."""

    tenant: Tenant
    collector: CollectorId
    name: str
    labels: bytes


class SeriesIndex:
    """Labels to slots, and which slots the series table holds already. Not for concurrent use.

    A slot keeps its id as long as the index lives, as readers of frames hold slots. Labels may be forgotten before:
    a series that comes again then gets another slot with the same id.
    """

    def __init__(self) -> None:
        self._slots: dict[tuple[Tenant, CollectorId], dict[bytes, int]] = {}
        self._series: dict[int, Series] = {}  # of the slots that the table lacks
        self._stored = bytearray()
        self._ids = bytearray()
        self._known = 0
        self._ranked: tuple[Slots, Ids, Slots] | None = None
        self.label_bytes = 0

    def __len__(self) -> int:
        return len(self._stored)

    def slots(self, tenant: Tenant, collector: CollectorId, labels: Sequence[bytes]) -> Slots:
        """The slot of each canonical label set; unknown ones are checked and added. Raises DeadLetter."""
        known = self._slots.setdefault((tenant, collector), {})
        try:
            return np.fromiter(map(known.__getitem__, labels), np.int64, len(labels))
        except KeyError:
            missing = dict.fromkeys(each for each in labels if each not in known)
            # All are checked before the first is added: a record that is put aside leaves nothing behind.
            checked = [Series(tenant, collector, _checked_name(each), each) for each in missing]
            self._add(tenant, collector, checked, known, stored=False)
            return np.fromiter(map(known.__getitem__, labels), np.int64, len(labels))

    def is_over(self, limit: int) -> bool:
        """Whether the labels of more than `limit` series are held, or more bytes than theirs usually take.

        A tenant chooses its labels, up to the gateway's limit for one series, and every byte of them stays here.
        """
        return self._known > limit or self.label_bytes > limit * USUAL_LABEL_BYTES

    def is_worn(self, limit: int) -> bool:
        """Whether so many slots were given out that a new index should begin."""
        return len(self) > SLOTS_PER_LABELS * limit

    def forget_labels(self) -> None:
        """Forget the labels of the slots that the table has."""
        self._slots.clear()
        self._known = len(self._series)
        self.label_bytes = sum(len(each.labels) for each in self._series.values())

    def learn(self, stored: Iterable[Series]) -> None:
        """Remember what the series table holds."""
        for series in stored:
            known = self._slots.setdefault((series.tenant, series.collector), {})
            if series.labels not in known:
                self._add(series.tenant, series.collector, [series], known, stored=True)

    def ids(self, slots: Slots) -> npt.NDArray[np.uint8]:
        """The ids of slots, shape (n, 16)."""
        view = np.frombuffer(self._ids, np.uint8).reshape(-1, 16)
        found = view[slots]
        del view  # while it lives, the bytearray can't grow
        return found

    def ranks(self, slots: Slots) -> tuple[Ids, Slots]:
        """The ids of ascending slots in order, each once, and the rank of each slot among them, by slot.

        The last answer is kept: from one commit to the next the series stay the same.
        """
        if self._ranked is None or not np.array_equal(self._ranked[0], slots):
            self._ranked = slots, *_ranked(self.ids(slots), slots)
        return self._ranked[1:]

    def unstored(self, slots: Slots) -> Slots:
        """Those slots whose series are not in the table yet."""
        view = np.frombuffer(self._stored, np.uint8)
        found: Slots = slots[view[slots] == 0]
        del view
        return found

    def series(self, slot: int) -> Series:
        """The series of a slot that is not stored yet."""
        return self._series[slot]

    def mark_stored(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._stored[slot] = 1
            self._series.pop(slot, None)

    def _add(
        self, tenant: Tenant, collector: CollectorId, new: list[Series], known: dict[bytes, int], *, stored: bool
    ) -> None:
        start = blake2b(series_id_prefix(tenant, collector), digest_size=16)
        first = len(self._stored)
        for slot, series in enumerate(new, first):
            digest = start.copy()
            digest.update(series.labels)
            self._ids += digest.digest()
            known[series.labels] = slot
            self.label_bytes += len(series.labels)
        if not stored:
            self._series.update(enumerate(new, first))
        self._stored += bytes([stored]) * len(new)
        self._known += len(new)


def _ranked(ids: Ids, slots: Slots) -> tuple[Ids, Slots]:
    high, low = id_words(ids)
    order = np.argsort(high)
    if (high[order][1:] == high[order][:-1]).any():
        order = np.lexsort((low, high))
    high, low = high[order], low[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])  # a forgotten series has a second slot
    rank_of = np.full(int(slots.max(initial=-1)) + 1, -1, np.int64)
    rank_of[slots[order]] = np.cumsum(is_new) - 1
    return ids[order[is_new]], rank_of


def _checked_name(labels: bytes) -> str:
    """The metric's name in canonical label bytes. Raises DeadLetter when they are not canonical."""
    parts = labels.split(b"\xff")
    names = parts[:-1:2]
    canonical = len(parts) % 2 and not parts[-1] and all(parts[:-1]) and names == sorted(set(names))
    try:
        labels.replace(b"\xff", b"\0").decode()
    except UnicodeDecodeError:
        canonical = False
    if not canonical:
        raise DeadLetter(f"labels that are not canonical (sorted, unique, none empty): {labels[:80]!r}")
    try:
        return parts[2 * names.index(b"__name__") + 1].decode()
    except ValueError:
        return ""
