"""What a foreign body holds once it is decoded, and what its decoders ask of the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from collector.wire.model import Labels
from metering.gateway.series import Refusal
from metering.samples import Metadata

Int64s = npt.NDArray[np.int64]


class SeriesNumbers(Protocol):
    """Gives each label set a number."""

    def number(self, labels: Labels) -> int:
        """A small number of 0 or more, the same for equal label sets; a negative one says why it is refused."""
        ...

    def number_of(self, parts: Sequence[bytes]) -> int | None:
        """The same from names and values in turn, not empty in all; None when `number` has to be asked."""
        ...


class PushedHistogram(NamedTuple):
    """A native histogram; `message` is an `io.prometheus.write.v2.Histogram` that was checked."""

    number: int
    timestamp_ms: int
    message: bytes


class PushedExemplar(NamedTuple):
    """An exemplar, its labels as sent."""

    number: int
    value: float
    timestamp_ms: int
    labels: Labels


@dataclass(frozen=True, slots=True)
class Pushed:
    """Samples by column: row i is of the series `numbers[i]`; the bits of every value are those that were sent.

    `starts_ms` is 0 where the sender did not say when a counter began, and None when it never did.
    """

    numbers: npt.NDArray[np.int32]
    timestamps_ms: Int64s
    values: npt.NDArray[np.float64]
    starts_ms: Int64s | None = None
    histograms: Sequence[PushedHistogram] = ()
    exemplars: Sequence[PushedExemplar] = ()
    metadata: Sequence[Metadata] = ()
    refused: Mapping[Refusal, int] = field(default_factory=dict)  # histograms and points that are not here
    fault: str = ""  # what is wrong with the first of them

    def __len__(self) -> int:
        return len(self.values)
