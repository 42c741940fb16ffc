"""The series that the writer has met: each gets a small number (slot) in this process and an id in the lake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, Tenant
from metering.record import canonical_labels, parse_canonical_labels, series_id

USUAL_LABEL_BYTES = 400


@dataclass(frozen=True, slots=True)
class Series:
    """One row of the series table."""

    tenant: Tenant
    collector: CollectorId
    name: str
    labels: bytes


class SeriesIndex:
    """Labels to slots, and which slots the series table holds already. Not for concurrent use."""

    def __init__(self) -> None:
        self._slots: dict[tuple[Tenant, CollectorId], dict[bytes, int]] = {}
        self._series: list[Series] = []
        self._stored = bytearray()
        self._ids = bytearray()
        self.label_bytes = 0

    def __len__(self) -> int:
        return len(self._series)

    def slots(self, tenant: Tenant, collector: CollectorId, labels: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The slot of each canonical label set; unknown ones are checked and added. Raises DeadLetter."""
        known = self._slots.setdefault((tenant, collector), {})
        try:
            return np.fromiter(map(known.__getitem__, labels), np.int64, len(labels))
        except KeyError:
            checked = [_check(tenant, collector, each) for each in labels if each not in known]
            for series in checked:
                if series.labels not in known:
                    known[series.labels] = self._add(series, stored=False)
            return np.fromiter(map(known.__getitem__, labels), np.int64, len(labels))

    def is_over(self, limit: int) -> bool:
        """Whether this is more than `limit` series, or than what their labels usually take.

        A tenant chooses its labels, up to the gateway's limit for one series, and every byte of them stays here.
        """
        return len(self) > limit or self.label_bytes > limit * USUAL_LABEL_BYTES

    def learn(self, stored: Iterable[Series]) -> None:
        """Remember what the series table holds."""
        for series in stored:
            known = self._slots.setdefault((series.tenant, series.collector), {})
            if series.labels not in known:
                known[series.labels] = self._add(series, stored=True)

    def ids(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The ids of slots, shape (n, 16)."""
        return np.frombuffer(bytes(self._ids), np.uint8).reshape(-1, 16)[slots]

    def unstored(self, slots: Iterable[int]) -> list[int]:
        """Those slots whose series are not in the table yet."""
        return [slot for slot in slots if not self._stored[slot]]

    def series(self, slot: int) -> Series:
        return self._series[slot]

    def mark_stored(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._stored[slot] = 1

    def _add(self, series: Series, *, stored: bool) -> int:
        self._series.append(series)
        self._stored.append(stored)
        self.label_bytes += len(series.labels)
        self._ids += series_id(series.tenant, series.collector, series.labels)
        return len(self._series) - 1


def _check(tenant: Tenant, collector: CollectorId, labels: bytes) -> Series:
    parsed = parse_canonical_labels(labels)
    if canonical_labels(parsed) != labels or len({name for name, _ in parsed}) != len(parsed):
        raise DeadLetter(f"labels that are not canonical (sorted, unique, none empty): {labels[:80]!r}")
    return Series(tenant, collector, dict(parsed).get("__name__", ""), labels)
