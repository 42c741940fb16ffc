"""What the ledger needs to know of a frame, carried beside its payload: who is in it, how much, who is new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
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
    """`families`: name -> (samples, body bytes before compression); `new`: (family, series) not listed before.

    Rendered: JSON, snappy. Behind its line stand the new series of the families in "s", a line each, as most texts
    would have to be escaped; those that hold a newline are in "n". Frames of before had all of them there.
    """

    families: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    new: Sequence[tuple[str, str]] = ()
    tag: str = ""  # of a backfill: which chunk of which file

    def render(self) -> bytes:
        """As bytes for the frame."""
        lines: dict[str, list[str]] = {}
        for family, series in self.new:
            lines.setdefault(family, []).append(series)
        odd = [(name, one) for name, some in lines.items() if "\n" in "".join(some) for one in some]
        for name, _ in odd:
            lines.pop(name, None)
        fields = {
            "f": {name: list(counts) for name, counts in self.families.items()},
            "n": odd,
            "s": [(name, len(some)) for name, some in lines.items()],
            "t": self.tag,
        }
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
        return bytes(cramjam.snappy.compress_raw("\n".join([text, *chain.from_iterable(lines.values())]).encode()))


def parse_meta(encoded: bytes) -> FrameMeta:
    """The inverse of `render`. Raises ValueError."""
    if not encoded:
        return FrameMeta()
    if cramjam.snappy.decompress_raw_len(encoded) > MAX_META_BYTES:
        raise ValueError("frame meta too large")
    try:
        head, *lines = bytes(cramjam.snappy.decompress_raw(encoded)).decode().split("\n")
        fields: Any = json.loads(head)
        families = {name: (int(samples), int(size)) for name, (samples, size) in fields["f"].items()}
        of_lines = (name for name, count in fields.get("s", ()) for _ in range(count))
        new = [*((family, text) for family, text in fields["n"]), *zip(of_lines, lines, strict=True)]
        return FrameMeta(families, new, fields["t"])
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
