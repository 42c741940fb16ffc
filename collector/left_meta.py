"""What the ledger needs to know of a frame, carried beside its payload: who is in it, how much, who is new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cramjam

from collector.labels import Labels, render_labels
from collector.wire.headers import PushLane

MAX_META_BYTES = 64 * 1024 * 1024


class LeftFrame(Protocol):
    """What the ledger asks of a frame."""

    @property
    def epoch(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def lane(self) -> PushLane: ...
    @property
    def samples(self) -> int: ...
    @property
    def metas(self) -> Sequence[bytes]: ...
    @property
    def payload(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """`families`: name -> (samples, body bytes before compression); `new`: (family, series) not listed before."""

    families: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    new: Sequence[tuple[str, str]] = ()
    tag: str = ""  # of a backfill: which chunk of which file

    def render(self) -> bytes:
        """As bytes for the frame."""
        fields = {"f": {name: list(counts) for name, counts in self.families.items()}, "n": list(self.new)}
        text = json.dumps({**fields, "t": self.tag}, separators=(",", ":"), ensure_ascii=False)
        return bytes(cramjam.snappy.compress_raw(text.encode()))


def parse_meta(encoded: bytes) -> FrameMeta:
    """The inverse of `render`. Raises ValueError."""
    if not encoded:
        return FrameMeta()
    if cramjam.snappy.decompress_raw_len(encoded) > MAX_META_BYTES:
        raise ValueError("frame meta too large")
    try:
        fields: Any = json.loads(bytes(cramjam.snappy.decompress_raw(encoded)))
        families = {name: (int(samples), int(size)) for name, (samples, size) in fields["f"].items()}
        return FrameMeta(families, [(family, text) for family, text in fields["n"]], fields["t"])
    except (KeyError, TypeError, cramjam.DecompressionError) as error:
        raise ValueError(f"frame meta is none: {error}") from error


def tally(rows: Iterable[tuple[str, int]]) -> dict[str, tuple[int, int]]:
    """Samples and bytes by family, of (family, bytes) rows."""
    counts: dict[str, list[int]] = {}
    for family, size in rows:
        entry = counts.get(family)
        if entry is None:
            counts[family] = [1, size]
        else:
            entry[0] += 1
            entry[1] += size
    return {family: (samples, size) for family, (samples, size) in counts.items()}


def listed(family: str, labels: Labels) -> tuple[str, str]:
    """How a series is named in the ledger."""
    return family, render_labels(labels)
