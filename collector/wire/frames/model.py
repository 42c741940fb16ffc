"""What the frames of our own protocol carry, as arrays by slot; docs/wire.md is the specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]

CONTENT_TYPE = "application/vnd.byoc.frames"
VERSION = 1
MEDIA_TYPE = f"{CONTENT_TYPE};version={VERSION}"  # what a sender writes into Content-Type; no Content-Encoding
MAX_BLOCK_BYTES = 900_000  # of one block, so that a body of one block always fits into a log record
MAX_BODY_BYTES = 1_000_000
MAX_BODY_SAMPLES = 1_000_000  # a target that stands still takes next to no bytes, so bytes alone bound nothing
MAX_BODY_PATCH_BYTES = 32 * 1024 * 1024  # of all patches of a body, decompressed
MAX_ENTRY_BYTES = 32_768  # of one series; a series with longer labels can't be sent
MAX_FAMILIES = 10_000  # that a block tells of
MAX_AT_MS = (1 << 53) - 1
MAX_DATE_MS = 253_402_300_799_999  # of rows with times of their own and of histograms: the end of the year 9999
MAX_SLOT = (1 << 24) - 1  # of one stream
CELL = 65_536  # slots in one column block: at most, and always the same ones

STALE_NAN_BITS = 0x7FF0000000000002


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Bounds of one body and of the state it may build, so that what it makes us allocate is known before."""

    max_body_bytes: int = MAX_BODY_BYTES
    max_blocks: int = 10_000  # in one body
    max_samples: int = 2 * MAX_BODY_SAMPLES  # in one body
    max_patch_bytes: int = MAX_BODY_PATCH_BYTES  # in one body
    max_extras_bytes: int = 8 * 1024 * 1024  # of stale markers, dated rows, histograms, exemplars of one block
    max_body_extras_bytes: int = 128 * 1024 * 1024  # the same of one body; they are opened one by one
    max_exemplars: int = 100_000  # in one block
    max_patch_slots: int = 4_000_000  # freed and filled by one body
    max_slots: int = 4_000_000  # of all streams of a group together
    max_streams: int = 20_000  # of a group
    max_entry_bytes: int = MAX_ENTRY_BYTES
    max_labels: int = 1_000  # in one entry
    max_histogram_bytes: int = 262_144
    max_families: int = MAX_FAMILIES
    max_told: int = 200_000  # exemplars and families of one body together
    max_starts: int = 4_000_000  # of one body


@dataclass(frozen=True, slots=True)
class HistogramRow:
    """One native histogram: an `io.prometheus.write.v2.Histogram` message with its timestamp inside."""

    slot: int
    message: bytes


@dataclass(frozen=True, slots=True)
class ExemplarRow:
    """One exemplar of a series; `labels` are canonical label bytes (may be empty)."""

    slot: int
    value: float
    timestamp_ms: int
    labels: bytes


@dataclass(frozen=True, slots=True)
class Starts:
    """When the counters behind slots began, ms UTC. `slots` ascend, each once."""

    slots: Slots
    starts_ms: Integers


@dataclass(frozen=True, slots=True)
class StartsOf:
    """When the counters behind series began that the reader's caller numbered, ms UTC."""

    series: Integers
    starts_ms: Integers


@dataclass(frozen=True, slots=True, order=True)
class FamilyMetadata:
    """What a target says of a metric family; `type` as in an entry's first byte. Empty texts: nothing was said."""

    family: str
    type: int = 0
    unit: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True)
class Dated:
    """Samples with the target's own times, one per row; a slot may occur several times."""

    slots: Slots
    timestamps_ms: Integers
    values: Floats


@dataclass(slots=True)
class Tick:
    """One scrape of one stream; arrays are by slot, as long as the table's capacity, unless said otherwise."""

    at_ms: int
    values: Floats  # bits are kept; slots that are not present may hold anything
    present: Bools | None  # which slots have a value at `at_ms`; None: every live slot
    stale: Slots  # slots, of the mapping before this tick, that get a stale marker at `at_ms`
    freed: Slots  # slots that are free from this tick on
    born: Slots  # slots filled in this tick; their entries are in the table already
    dated: Dated | None = None
    histograms: Sequence[HistogramRow] = ()
    exemplars: Sequence[ExemplarRow] = ()
    starts: Starts | None = None  # of all counters whose start is known; an encoder sends those that changed
    metadata: Sequence[FamilyMetadata] = ()  # of all families, each once; an encoder sends those that changed


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a body, at most MAX_BLOCK_BYTES: changes of one stream's series, or values of some of its slots.

    The blocks of a stream must be kept in their order. `samples` counts values, stale markers, dated rows and
    histograms; exemplars are not samples. `patch_bytes` is what its patch takes decompressed.
    """

    content: bytes
    samples: int
    patch_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ExemplarOf:
    """An exemplar of a series that the reader's caller numbered."""

    series: int
    value: float
    timestamp_ms: int
    labels: bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one stream: row i is series number `series[i]` (as `assign` gave it) at `timestamps_ms[i]`.

    One scrape gives one or several of these. The arrays are shared with the reader: copy before you write. While
    a stream's series stay the same, the *same* `series` array object comes back for the same slots.
    """

    stream: int
    at_ms: int
    series: Integers
    timestamps_ms: Integers
    values: Floats
    histograms: Sequence[tuple[int, bytes]] = ()  # (series number, v2.Histogram message)
    exemplars: Sequence[ExemplarOf] = ()
    starts: StartsOf | None = None
    metadata: Sequence[FamilyMetadata] = ()
