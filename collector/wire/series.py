"""What an encoder takes: a series and its samples."""

from __future__ import annotations

from dataclasses import dataclass

from collector.exposition.columns import MetricType
from collector.labels import Labels
from collector.wire.frames.model import FamilyMetadata
from collector.wire.model import Decoded


@dataclass(frozen=True, slots=True)
class WireSeries:
    """One series of a push: labels sorted and unique; samples (timestamp ms, value) in the order of time.

    Samples or `histograms` (`io.prometheus.write.v2.Histogram` messages), never both, as remote write 2.0 asks;
    `exemplars`: (value, timestamp ms, labels). `start_ms`: when what it counts began, 0: not known. `told`: of its
    family, if the target said anything.
    """

    labels: Labels
    samples: tuple[tuple[int, float], ...]
    type: MetricType = MetricType.UNKNOWN
    histograms: tuple[bytes, ...] = ()
    exemplars: tuple[tuple[float, int, Labels], ...] = ()
    start_ms: int = 0
    told: FamilyMetadata | None = None

    @property
    def size(self) -> int:
        """Samples and histograms, as a receipt counts them."""
        return len(self.samples) + len(self.histograms)


def series_of(decoded: Decoded) -> list[WireSeries]:
    """The series of a decoded push, each with its rows, in the order in which they were sent."""
    rows: dict[int, list[tuple[int, float]]] = {}
    for index, at, value in zip(decoded.series_index, decoded.timestamps_ms, decoded.values, strict=True):
        rows.setdefault(index, []).append((at, value))
    return [WireSeries(decoded.series[index], tuple(samples)) for index, samples in rows.items()]
