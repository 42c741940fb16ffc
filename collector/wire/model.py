"""What a decoded push holds, the same for remote write 1.0 and 2.0."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]  # as sent: the order and the names are not checked yet


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds of one body, so that what it makes us allocate is known before it is read."""

    max_decompressed_bytes: int = 32 * 1024 * 1024
    max_series: int = 100_000
    max_samples: int = 500_000
    max_symbols: int = 500_000
    max_labels_per_series: int = 1_000
    max_labels: int = 1_000_000  # of all series together


@dataclass(slots=True)
class Decoded:
    """Samples by column: row i is `series[series_index[i]]` at `timestamps_ms[i]` with the value `values[i]`.

    The bits of a NaN are those that were sent. Several entries of `series` may be equal. A series without samples
    is listed all the same. Histograms, exemplars and metadata are counted, not kept.
    """

    series: list[Labels] = field(default_factory=list)
    series_index: array[int] = field(default_factory=lambda: array("i"))
    timestamps_ms: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    histograms: int = 0
    exemplars: int = 0
    metadata: int = 0

    @property
    def samples(self) -> int:
        return len(self.values)


class LabelCache:
    """Labels by the bytes that they were sent as, bounded by bytes: full, it starts again from empty.

    A pair that occurs in many series is held once. One cache a sender, so that no sender can empty another's.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._blocks: dict[bytes, Labels] = {}
        self._pairs: dict[bytes, tuple[str, str]] = {}
        self.get = self._blocks.get
        self.get_pair = self._pairs.get

    def add(self, block: bytes, labels: Labels) -> None:
        """Keep the labels of a series under all their bytes."""
        if self._takes(250 + len(block) + 8 * len(labels)):
            self._blocks[block] = labels

    def add_pair(self, encoded: bytes, pair: tuple[str, str]) -> None:
        """Keep one label under its bytes."""
        if self._takes(400 + 2 * len(encoded)):
            self._pairs[encoded] = pair

    def _takes(self, size: int) -> bool:
        if size > self._max_bytes:
            return False
        if self._bytes + size > self._max_bytes:
            self._blocks.clear()
            self._pairs.clear()
            self._bytes = 0
        self._bytes += size
        return True
